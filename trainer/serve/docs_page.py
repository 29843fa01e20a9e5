"""A page for people that shows what the endpoint takes and gives, made of its OpenAPI description. It loads nothing.

FastAPI's own page would load scripts from a foreign server, and show names from a model file as markup.
"""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
pre, textarea { font: 13px/1.4 monospace; width: 100%; box-sizing: border-box; overflow: auto; max-height: 30rem;
  white-space: pre-wrap; overflow-wrap: anywhere }
h1, h2, p { overflow-wrap: anywhere }
"""
_SCRIPT = """
const button = document.querySelector("button"), reply = document.querySelector("#reply");
button.onclick = async () => {
  const body = document.querySelector("textarea").value;
  try {
    const response = await fetch("invocations", {method: "POST", headers: {"Content-Type": "application/json"}, body});
    reply.textContent = response.status + " " + await response.text();
  } catch (error) { reply.textContent = error; }
};
"""


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def content_security_policy(own_script: str | None = None) -> str:
    """Returns what lets a browser run a page's own script, if there is one, and load nothing."""
    script = f"script-src {_hash(own_script)}; connect-src 'self'; " if own_script else ""
    return f"default-src 'none'; style-src {_hash(STYLE)}; {script}{_NO_OTHERS}"


_NO_OTHERS = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
CONTENT_SECURITY_POLICY = content_security_policy(_SCRIPT)


def docs_page(schema: dict[str, Any]) -> str:
    """Returns the page, of an OpenAPI description. All that comes from the model is escaped."""
    operation = schema["paths"]["/invocations"]["post"]
    content = operation["requestBody"]["content"]["application/json"]
    example = content.get("examples", {}).get("rows", {}).get("value", {})
    responses = operation["responses"]
    reply = responses["200"]["content"]["application/json"]["schema"]
    refusals = {status: each["description"] for status, each in responses.items() if status != "200"}
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(schema["info"]["title"])}</title><style>{STYLE}</style></head>
<body>
<h1>{escape(schema["info"]["title"])}</h1>
<p>{escape(schema["info"]["description"])}</p>
<h2>GET ping</h2>
<p>Answers 200 once the model is there.</p>
<h2>POST invocations</h2>
<p>Takes JSON with N rows and answers with N rows. A request to try:</p>
<textarea rows="8">{escape(json.dumps(example))}</textarea>
<p><button>Send</button></p>
<pre id="reply"></pre>
<h2>Request</h2>
<pre>{_shown(content["schema"])}</pre>
<h2>Reply</h2>
<pre>{_shown(reply)}</pre>
<h2>Refusals</h2>
<pre>{_shown(refusals)}</pre>
<p><a href="openapi.json">openapi.json</a>: the whole description, for programs.</p>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _shown(value: Any) -> str:
    return escape(json.dumps(value, indent=1))
