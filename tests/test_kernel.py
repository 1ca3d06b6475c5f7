"""The same fetching code inside a real notebook kernel, where an asyncio loop already runs."""

from __future__ import annotations

import nbformat
import pytest
from nbclient import NotebookClient

CELLS = (
    """
from lightbulb.web.fetch import FetchConfig, FetchFailure, Fetcher, Page
from lightbulb.web.reactor import Response, arun, gather, run, serve

server = serve(lambda request: Response(404) if request.path == "/missing" else Response(body=f"<p>{request.path}", delay=0.01))
fetcher = Fetcher(FetchConfig(allow_hosts=(f"127.0.0.1:{server.port}",), delay=0))
""",
    "page = fetcher.run(server.url + '/blocking')\nprint(type(page).__name__, page.html)",
    "page = await fetcher.arun(server.url + '/awaited')\nprint(type(page).__name__, page.html)",
    "print(*[page.html for page in fetcher.run_many(server.url + f'/{i}' for i in range(5))])",
    "print(*[page.html for page in await gather([lambda i=i: fetcher.arun(server.url + f'/{i}') for i in range(5)], limit=2)])",
    "print(fetcher.run(server.url + '/missing').reason, (await fetcher.arun('http://localhost/')).reason)",
    """
import asyncio
task = asyncio.create_task(fetcher.arun(server.url + '/cancelled'))
await asyncio.sleep(0)
task.cancel()
try: await task
except asyncio.CancelledError: print('cancelled')
print((await fetcher.arun(server.url + '/after')).html)
""",
    "fetcher.close(); server.close(); print(fetcher.run(server.url).reason)",
)
EXPECTED = [
    "",
    "Page <p>/blocking",
    "Page <p>/awaited",
    "<p>/0 <p>/1 <p>/2 <p>/3 <p>/4",
    "<p>/0 <p>/1 <p>/2 <p>/3 <p>/4",
    "http_status private_address",
    "cancelled\n<p>/after",
    "closed",
]


@pytest.fixture(scope="module")
def executed():
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    return notebook


def test_a_notebook_fetches_blocking_and_awaited(executed):
    printed = ["".join(output.get("text", "") for output in cell.outputs).strip() for cell in executed.cells]
    assert printed == EXPECTED


def test_nothing_goes_to_standard_error(executed):
    assert [output for cell in executed.cells for output in cell.outputs if output.get("name") == "stderr"] == []
