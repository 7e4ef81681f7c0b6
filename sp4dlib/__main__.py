"""``python -m sp4dlib`` is the command ``sp4d``."""

from sp4dlib.cli import main

raise SystemExit(main())
