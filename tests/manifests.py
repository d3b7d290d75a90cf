"""Manifests to test with, and ways to make others of them."""

from __future__ import annotations

import copy
import datetime
from typing import Any

import yaml
from hypothesis import strategies as st

TODAY = datetime.date(2026, 11, 21)

FULL = """\
# Everything a manifest can say.
stack: alpine/3.23
description: A shop that sells "things" for $5
license: MIT
url: https://shop.example/about
maintainer: Ada Lovelace <ada@example.com>
architectures: [x86_64, aarch64]
dependencies:
  build:
    - elixir>=1.17
    - npm
    - "!nodejs-current"
    - wasi-sdk@edge
  runtime:
    - curl
    - ca-certificates
    - so:libpq.so.5
    - python3~3.12
    - shop-openrc
  trace: true
build:
  command: |
    mix deps.get --only prod
    mix release
  destinations:
    - _build/prod/rel/shop/*
    - .env.example
  exclude:
    - node_modules
  environment:
    MIX_ENV: prod
    EMPTY: ""
  strip_binary: false
source:
  - Caddyfile
  - data/geo.csv
run:
  name: shop
  user: root
  services:
    - name: web
      binary: shop
      start:
        call: start --name "my shop"
      stop:
        call: stop
        kill: true
    - name: worker
      binary: php
      path: /usr/bin
  commands:
    - name: migrate
      binary: shop
      call: eval Shop.Release.migrate
    - name: db-console
      binary: psql
      path: /usr/bin
hook:
  post-install: |
    rc-update add shop
  pre-upgrade: rc-service --ifexists shop stop
  post-upgrade: |
    rc-service shop migrate && rc-service shop start
test:
  command: |
    curl -fsS http://127.0.0.1:4000/health | jq -e .ok
  packages: [jq, "postgresql17-client>=17", k6@testing]
  environment:
    DATABASE_URL: postgres://postgres@127.0.0.1/shop
    GREETING: '"hello"'
kits:
  - name: web
    description: the web service
    main: true
    default_size: medium
    max_instances_count: 3
    ports:
      - name: web
        main: true
        target: 4000
        source: 443
        proxy_protocol: false
    variables:
      - key: PORT
        default_value: 4000
      - key: SECRET
        driver: generic/secret
        driver_options: {length: 64, deep: [{a: null}]}
        required: true
    forks:
      - name: worker
        description: runs the jobs
        variables:
          - {key: SERVICE_MODE, default_value: worker}
    orchestration:
      upgrade: rolling
sizes:
  - name: medium
    allocation: {cpu: 1, memory: 0.5}
plans:
  - name: basic
    description: the basic plan
    managed_by: uplink
    layers: [{channel_slug: master, kit_slug: web, size_slug: medium}]
    pricings: [{amount: 3500, currency: USD, billing_period: monthly}]
page:
  title: Shop
  slogan: Sells things
  extra: [1]
"""

LEAST = "stack: alpine/edge\nbuild:\n  destinations:\n    - dist\n"


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Return every place in a tree that a value can be taken from: container and key."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found: list[tuple[Any, Any]] = []
    for key, inner in entries:
        found += [(value, key), *_places(inner)]
    return found


_words = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["", "start", "a b", "../x", "/usr", "x86_64", "static", "root", "alpine/3.20", "a\n", "$(id)", "'"]
    ),
)
_scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 100_000), st.floats(allow_nan=False, allow_infinity=False), _words
)
trees = st.recursive(
    _scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_words, inner, max_size=3)),
    max_leaves=6,
)
"""Any data that a manifest could have at any place."""


@st.composite
def changed(draw: st.DrawFn) -> Any:
    """Return FULL's data with some values put elsewhere, taken out or replaced."""
    data = copy.deepcopy(yaml.safe_load(FULL))
    for _ in range(draw(st.integers(0, 3))):
        places = _places(data)
        container, key = places[draw(st.integers(0, len(places) - 1))]
        if draw(st.booleans()):
            container[key] = draw(trees)
        elif isinstance(container, dict):
            container[draw(_words)] = container.pop(key)
        else:
            del container[key]
    return data


@st.composite
def scribbled(draw: st.DrawFn) -> str:
    """Return FULL's text with something written into it or cut out of it."""
    text = FULL
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        length = draw(st.sampled_from([0, 0, 1, 2, 20]))
        written = draw(
            st.one_of(
                st.text(max_size=5),
                st.sampled_from(
                    ["- ", ": ", "\t", "{", "]", "*", "&a ", "!x ", "'", '"', "\n", "  ", "---\n", "? ", "%"]
                ),
            )
        )
        text = text[:start] + written + text[start + length :]
    return text
