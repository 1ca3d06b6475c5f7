#!/bin/sh
# Prints the first Python that is new enough ($PYTHON first, if set), or one clear line on standard error.
# Inside an active virtual environment it prints the interpreter below it.
code='import sys; assert sys.version_info >= (3, 11); print(getattr(sys, "_base_executable", sys.executable))'
for candidate in "$PYTHON" python3 python3.12 python3.13 python3.11 python3.14 python; do
    if [ -n "$candidate" ] && found="$("$candidate" -c "$code" 2>/dev/null)"; then
        echo "$found"
        exit 0
    fi
done
echo "lightbulb needs Python 3.11 or newer and found none: install one, or name it with 'make PYTHON=/path/to/python3.12 ...'" >&2
exit 1
