"""The tools, resources and prompts that the conformance suite of the protocol asks servers for.

`python conformance_server.py PORT`, and `python conformance_server.py PORT --sessions` for the same with sessions.
"""

from __future__ import annotations

import base64
import sys
from typing import Any

from fastmcp import Context, FastMCP
from fastmcp.exceptions import ToolError
from fastmcp.prompts import Message
from fastmcp.tools import ToolResult
from fastmcp.utilities.types import Audio, Image
from mcp.types import EmbeddedResource, TextResourceContents

from perdure import SessionStore
from perdure.integrations.mcp import install

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
)
WAV = base64.b64decode("UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA=")
NAME_FORM = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}

mcp: FastMCP = FastMCP("conformance")


def embedded(uri: str, media: str, text: str) -> EmbeddedResource:
    resource = TextResourceContents.model_validate({"uri": uri, "mimeType": media, "text": text})
    return EmbeddedResource(type="resource", resource=resource)


@mcp.tool
def test_simple_text() -> str:
    """Text."""
    return "This is a simple text response for testing."


@mcp.tool
def test_image_content() -> Image:
    """An image."""
    return Image(data=PNG, format="png")


@mcp.tool
def test_audio_content() -> Audio:
    """A sound."""
    return Audio(data=WAV, format="wav")


@mcp.tool
def test_embedded_resource() -> ToolResult:
    """A resource."""
    return ToolResult(
        content=[embedded("test://embedded-resource", "text/plain", "This is an embedded resource content.")]
    )


@mcp.tool
def test_multiple_content_types() -> list[Any]:
    """All of it."""
    data = embedded("test://mixed-content-resource", "application/json", '{"test":"data","value":123}')
    return ["Multiple content types test:", Image(data=PNG, format="png"), data]


@mcp.tool
async def test_tool_with_logging(ctx: Context) -> str:
    """Says what it does."""
    for message in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.info(message)
    return "logged"


@mcp.tool
async def test_tool_with_progress(ctx: Context) -> str:
    """Says how far it is."""
    for progress in (0, 50, 100):
        await ctx.report_progress(progress, 100)
    return "done"


@mcp.tool
def test_error_handling() -> str:
    """Never works."""
    raise ToolError("This tool intentionally returns an error for testing")


@mcp.tool
async def test_input_required_result_elicitation(ctx: Context) -> Any:
    """Asks for a name in a first round, and greets in the second."""
    from mcp_types import InputRequiredResult

    answers = ctx.input_responses or {}
    if "user_name" not in answers:
        ask = {
            "method": "elicitation/create",
            "params": {"message": "What is your name?", "requestedSchema": NAME_FORM},
        }
        return InputRequiredResult.model_validate({"resultType": "input_required", "inputRequests": {"user_name": ask}})
    given: Any = answers["user_name"]
    return f"Hello, {given.content['name']}!"


@mcp.resource("test://static-text", mime_type="text/plain")
def static_text() -> str:
    """Text."""
    return "This is the content of the static text resource."


@mcp.resource("test://static-binary", mime_type="image/png")
def static_binary() -> bytes:
    """An image."""
    return PNG


@mcp.resource("test://template/{id}/data", mime_type="application/json")
def template(id: str) -> str:  # noqa: A002 (the suite's name for it)
    """One of many."""
    return f'{{"id":"{id}","templateTest":true,"data":"Data for ID: {id}"}}'


@mcp.prompt
def test_simple_prompt() -> str:
    """A prompt."""
    return "This is a simple prompt for testing."


@mcp.prompt
def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
    """A prompt about something."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


@mcp.prompt
def test_prompt_with_embedded_resource(resourceUri: str) -> list[Message]:  # noqa: N803 (the suite's name for it)
    """A prompt with a resource."""
    return [Message(embedded(resourceUri, "text/plain", "Embedded resource content for testing."))]


if __name__ == "__main__":
    if "--sessions" in sys.argv:
        install(mcp, SessionStore.open("memory://"))
    mcp.run(
        transport="http",
        host="127.0.0.1",
        port=int(sys.argv[1]),
        show_banner=False,
        host_origin_protection=True,
    )
