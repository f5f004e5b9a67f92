import assert from "node:assert/strict";
import { test } from "node:test";

import { maskSecrets } from "./mask-secrets.ts";

test("passwords of URLs are masked wherever they stand", () => {
  for (const [text, masked] of [
    ["Get http://user:PASS@host/a.tar: EOF", "Get http://user:***@host/a.tar: EOF"],
    ['"url":"http://user:P@SS:WORD@host:80/x@y"', '"url":"http://user:***@host:80/x@y"'],
    ["https://:PASS@host", "https://:***@host"],
    ["https://TOKEN@host/x.git#main", "https://***@host/x.git#main"],
    ["a http://u:P@h b https://v:Q@i", "a http://u:***@h b https://v:***@i"],
    [
      "/build?remote=https%3A%2F%2Fuser%3APASS%40host%2Fx.git&t=a",
      "/build?remote=https%3A%2F%2Fuser%3A***%40host%2Fx.git&t=a",
    ],
    [
      "/images/create?fromSrc=http%3a%2f%2fu%3aP%2540SS%40h%2fx",
      "/images/create?fromSrc=http%3a%2f%2fu%3a***%40h%2fx",
    ],
    ["/images/create?fromSrc=http://u:P@h/x&repo=a", "/images/create?fromSrc=http://u:***@h/x&repo=a"],
  ] as const) {
    assert.equal(maskSecrets(text), masked);
  }
});

test("queries of URLs are masked", () => {
  for (const [text, masked] of [
    ['Get "http://host/a.tar?token=T&x=1": EOF', 'Get "http://host/a.tar?***": EOF'],
    [
      "https://host/x.git?token=T#main:dir, http://host/b?T: EOF",
      "https://host/x.git?***#main:dir, http://host/b?***: EOF",
    ],
    [
      "/build?remote=https%3A%2F%2Fhost%2Fx%3Ftoken%3DT%26x%3D1&t=a",
      "/build?remote=https%3A%2F%2Fhost%2Fx%3F***&t=a",
    ],
    ["/images/create?fromSrc=http://u:P@h/x?token=T", "/images/create?fromSrc=http://u:***@h/x?***"],
    ['{"reason":"Get \\"http://host/a?T\\": EOF"}', '{"reason":"Get \\"http://host/a?***\\": EOF"}'],
  ] as const) {
    assert.equal(maskSecrets(text), masked);
  }
});

test("build arguments and instructions in a request's path are masked", () => {
  assert.equal(
    maskSecrets('"url":"/v1.51/build?t=a&buildargs=%7B%22T%22%3A%22s%22%7D&rm=1"'),
    '"url":"/v1.51/build?t=a&buildargs=***&rm=1"',
  );
  assert.equal(maskSecrets("/commit?changes=ENV+A%3Ds&changes=CMD+sh"), "/commit?changes=***&changes=***");
});

test("all else stays as it is", () => {
  for (const text of [
    "http://host:8080/a@b",
    "nginx@sha256:abc http://host/x:y@z",
    "/containers/json?filters=%7B%22label%22%3A%5B%22a%3Db%40c%22%5D%7D",
    "unix:///run/x.sock user:word@host",
    "is http://host/x missing? /containers/json?all=1",
  ]) {
    assert.equal(maskSecrets(text), text);
  }
});

test("long lines take time in proportion", () => {
  for (const text of [
    `${"http://a:".repeat(20_000)}${"http://".repeat(20_000)}`,
    `${"http://a/ ".repeat(20_000)}http://a?${":".repeat(100_000)}`,
  ]) {
    assert.equal(maskSecrets(text), text);
  }
});
