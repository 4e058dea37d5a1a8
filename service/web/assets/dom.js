// One helper for elements made here.

/** An element with its properties and children. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** A button that shows an icon of index.html and is called by its name. */
export function iconButton(icon, name) {
  const button = make("button", { type: "button", className: "quiet", ariaLabel: name, title: name });
  button.innerHTML = `<svg aria-hidden="true"><use href="#i-${icon}"/></svg>`;
  return button;
}
