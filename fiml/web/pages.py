"""The page, its login, and its files."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Final
from urllib.parse import parse_qs

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from fiml.errors import AuthenticationError, InvalidArgumentError
from fiml.web.filters import PARAMETERS, Filters
from fiml.web.gate import Caller, cookie_name, is_loopback
from fiml.web.openapi import openapi
from fiml.web.present import FilterForm, Page, present, present_filters
from fiml.web.refusals import Refusal, refusal_of
from fiml.web.service import Service
from fiml.web.views import View

__all__ = ["filters_of", "page_routes", "parts_of"]

# What the browser says of its time zone, for addresses that name none.
_TIMEZONE_COOKIE: Final = "timezone"
_PARTS: Final = ("freshness", "notice", "tiles", "chart", "lists", "alerts", "state", "figures")
_LONGEST_FORM: Final = 32_768
_MOST_FIELDS: Final = 10
# Browsers drop a longer cookie without a word.
_LONGEST_COOKIE: Final = 4_000
_STATIC: Final = ("page.css", "page.js", "icon.svg")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("fiml.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["asset"] = lambda name: f"/static/{_digest(name)}/{name}"
    return environment


def parts_of(view: View, filters: Filters) -> dict[str, str]:
    """What of the page changes with the figures, by the id of its element."""
    address = filters.address()
    if address not in view.written:
        page = present(view, filters)
        view.written[address] = {name: _render(f"{name}.html", {"page": page}) for name in _PARTS}
    return view.written[address]


def filters_of(pairs: list[tuple[str, str]], connection: HTTPConnection) -> Filters:
    """The filters of an address; its time zone, where it names none, is the browser's.

    Raises:
        InvalidArgumentError: one of the parameters is unknown, doubled or malformed.
    """
    try:
        return Filters.of(pairs, connection.cookies.get(_TIMEZONE_COOKIE, "UTC"))
    except InvalidArgumentError:
        # A cookie may hold anything; what is wrong with the address is told.
        return Filters.of(pairs)


def page_routes(service: Service) -> list[Route]:
    """The page at `/`, with what it needs."""
    gate = service.gate

    async def page(request: Request) -> Response:
        try:
            caller = gate.caller(request)
        except AuthenticationError as error:
            return _login(request, refusal_of(error), is_first=not _has_cookie(request))
        pairs = request.query_params.multi_items()
        try:
            filters = filters_of(pairs, request)
        except InvalidArgumentError as error:
            return _problem(Filters.of([]), caller, refusal_of(error))
        try:
            with gate.call(caller, "/", dict(pairs), PARAMETERS) as call:
                user_id = call.user_id(filters.subject.user_id)
                view = await service.views.read(filters.about(user_id))
        except Exception as error:  # noqa: BLE001 - each has its answer
            return _problem(filters, caller, refusal_of(error))
        form = present_filters(filters, caller, user_id)
        return _page(form, caller, present(view, filters), None)

    async def login(request: Request) -> Response:
        if gate.is_open:
            return RedirectResponse("/", 303)
        if request.method == "GET":
            return _login(request, None, is_first=True)
        form = await _form(request)
        token = form.get("token", "").strip()
        try:
            gate.bearer(token)
        except AuthenticationError as error:
            return _login(request, refusal_of(error), is_first=False, query=form.get("query", ""))
        if len(token) > _LONGEST_COOKIE:
            too_long = Refusal(
                400, f"A browser keeps tokens of up to {_LONGEST_COOKIE} characters, no longer one."
            )
            return _login(request, too_long, is_first=False, query=form.get("query", ""))
        query = form.get("query", "")
        response = RedirectResponse(f"/?{query}" if query else "/", 303)
        response.set_cookie(
            cookie_name(request),
            token,
            httponly=True,
            samesite="strict",
            secure=not is_loopback(request),
        )
        return response

    async def logout(request: Request) -> Response:
        response = RedirectResponse("/login", 303)
        response.delete_cookie(
            cookie_name(request), httponly=True, samesite="strict", secure=not is_loopback(request)
        )
        return response

    document = openapi(is_open=gate.is_open)

    async def api(_request: Request) -> Response:
        return HTMLResponse(_render("api.html", {"document": document}))

    return [
        Route("/", page),
        Route("/login", login, methods=["GET", "POST"]),
        Route("/logout", logout, methods=["POST"]),
        Route("/api", api),
        Route("/static/{digest}/{name}", _static),
    ]


def _page(form: FilterForm, caller: Caller, page: Page | None, problem: Refusal | None) -> Response:
    context = {
        "form": form,
        "page": page,
        "problem": problem,
        "has_login": caller.identity is not None,
    }
    status = 200 if problem is None else problem.status
    headers = None if problem is None else problem.headers
    return HTMLResponse(_render("page.html", context), status, headers)


def _problem(filters: Filters, caller: Caller, refusal: Refusal) -> Response:
    form = present_filters(filters, caller, filters.subject.user_id)
    return _page(form, caller, None, refusal)


def _login(
    request: Request, refusal: Refusal | None, *, is_first: bool, query: str | None = None
) -> Response:
    context = {
        "query": request.url.query if query is None else query,
        "problem": None if is_first or refusal is None else _of_a_token(refusal),
    }
    status = 200 if refusal is None else refusal.status
    return HTMLResponse(
        _render("login.html", context), status, None if refusal is None else refusal.headers
    )


def _of_a_token(refusal: Refusal) -> str:
    if refusal.status == 401:
        return "This token is not valid here, or not any more."
    return refusal.message


def _has_cookie(request: Request) -> bool:
    return cookie_name(request) in request.cookies


async def _form(request: Request) -> dict[str, str]:
    """The fields of a posted form; none of one that is too long, or has too many."""
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > _LONGEST_FORM:
                return {}
    except ClientDisconnect:
        return {}
    try:
        fields = parse_qs(body.decode("latin-1"), max_num_fields=_MOST_FIELDS)
    except ValueError:
        return {}
    return {name: values[-1] for name, values in fields.items()}


async def _static(request: Request) -> Response:
    name = request.path_params["name"]
    if name not in _STATIC or request.path_params["digest"] != _digest(name):
        return PlainTextResponse("There is no such file.", 404)
    return Response(
        _content(name),
        media_type=mimetypes.types_map.get("." + name.rpartition(".")[2], "text/plain"),
        # Another content has another address.
        headers={"Cache-Control": "public, max-age=31536000, immutable"},
    )


@cache
def _content(name: str) -> bytes:
    return files("fiml.web").joinpath("static", name).read_bytes()


@cache
def _digest(name: str) -> str:
    return hashlib.sha256(_content(name)).hexdigest()[:12]


def _render(template: str, context: Mapping[str, Any]) -> str:
    return _environment().get_template(template).render(context)
