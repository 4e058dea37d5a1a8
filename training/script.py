"""For modules that are run by themselves: ``python -m training.NAME``."""

from __future__ import annotations

import sys
from collections.abc import Callable

from model.errors import UserError


def run(main: Callable[[], None]) -> None:
    """Call ``main``. What the user can put right ends in one line and, as in ``nmt``, exit code 2 or 1."""
    try:
        main()
    except UserError as error:
        message, code = str(error), 2
    except ModuleNotFoundError as error:
        message, code = f"needs {error.name}, which is not installed; --help says where it comes from", 2
    except OSError as error:
        message, code = f"{error.filename or 'input or output'}: {error.strerror or error}", 1
    else:
        return
    print(" ".join(message.split()), file=sys.stderr)
    sys.exit(code)
