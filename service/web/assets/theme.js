// Before the first paint: the colours that the reader chose; without a choice, those of the system.
try {
  const theme = localStorage.getItem("nmt.theme");
  if (theme) document.documentElement.dataset.theme = theme;
} catch {
  // no storage, no choice
}
