import assert from "node:assert/strict";
import { describe, it } from "node:test";

import {
  canonicalString,
  familiarForms,
  familiarName,
  familiarString,
  parseAny,
  parseNamed,
  parseTarget,
  withDefaultTag,
} from "./reference.ts";

const hex = "0123456789abcdef".repeat(4);
const digest = `sha256:${hex}`;

/** References as they are written, in full, and as people see them. */
const accepted: readonly (readonly [text: string, canonical: string, familiar: string])[] = [
  ["nginx", "docker.io/library/nginx", "nginx"],
  ["nginx:latest", "docker.io/library/nginx:latest", "nginx:latest"],
  ["library/nginx", "docker.io/library/nginx", "nginx"],
  ["docker.io/nginx", "docker.io/library/nginx", "nginx"],
  ["docker.io/library/nginx:1.27", "docker.io/library/nginx:1.27", "nginx:1.27"],
  ["index.docker.io/nginx", "docker.io/library/nginx", "nginx"],
  ["index.docker.io/bitnami/redis", "docker.io/bitnami/redis", "bitnami/redis"],
  ["bitnami/redis:7", "docker.io/bitnami/redis:7", "bitnami/redis:7"],
  ["a/b/c/d", "docker.io/a/b/c/d", "a/b/c/d"],
  ["library/a/b", "docker.io/library/a/b", "library/a/b"],
  ["localhost/x", "localhost/x", "localhost/x"],
  ["localhost:5000/x:y", "localhost:5000/x:y", "localhost:5000/x:y"],
  ["localhost:5000", "docker.io/library/localhost:5000", "localhost:5000"],
  ["127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b"],
  ["[::1]:5000/a", "[::1]:5000/a", "[::1]:5000/a"],
  ["[2001:db8::1]/a", "[2001:db8::1]/a", "[2001:db8::1]/a"],
  ["ghcr.io/o/r:sha-1", "ghcr.io/o/r:sha-1", "ghcr.io/o/r:sha-1"],
  ["UPPER/x", "UPPER/x", "UPPER/x"],
  ["Reg.Example.com:443/x", "Reg.Example.com:443/x", "Reg.Example.com:443/x"],
  ["nginx:Tag_1.2-3", "docker.io/library/nginx:Tag_1.2-3", "nginx:Tag_1.2-3"],
  [`nginx:${"t".repeat(128)}`, `docker.io/library/nginx:${"t".repeat(128)}`, `nginx:${"t".repeat(128)}`],
  [`nginx@${digest}`, `docker.io/library/nginx@${digest}`, `nginx@${digest}`],
  [`nginx:1@${digest}`, `docker.io/library/nginx:1@${digest}`, `nginx:1@${digest}`],
  ["a__b", "docker.io/library/a__b", "a__b"],
  ["a---b", "docker.io/library/a---b", "a---b"],
  ["a.b", "docker.io/library/a.b", "a.b"],
  ["a_b", "docker.io/library/a_b", "a_b"],
  ["1", "docker.io/library/1", "1"],
  [
    `sha256:${hex.slice(0, 20)}`,
    `docker.io/library/sha256:${hex.slice(0, 20)}`,
    `sha256:${hex.slice(0, 20)}`,
  ],
  [hex.slice(0, 63), `docker.io/library/${hex.slice(0, 63)}`, hex.slice(0, 63)],
];

const refused: readonly (readonly [text: string, message: string])[] = [
  ["", "invalid reference format"],
  [" ", "invalid reference format"],
  [":", "invalid reference format"],
  [":tag", "invalid reference format"],
  ["a:", "invalid reference format"],
  ["/a", "invalid reference format"],
  ["a/", "invalid reference format"],
  ["a//b", "invalid reference format"],
  ["a..b", "invalid reference format"],
  ["a___b", "invalid reference format"],
  ["-a", "invalid reference format"],
  ["a-", "invalid reference format"],
  ["_a", "invalid reference format"],
  [".a", "invalid reference format"],
  ["a:b:c", "invalid reference format"],
  ["a b", "invalid reference format"],
  ["a\n", "invalid reference format"],
  ["a\0b", "invalid reference format"],
  ["näme", "invalid reference format"],
  ["a:-tag", "invalid reference format"],
  ["a:.tag", "invalid reference format"],
  [`a:${"t".repeat(129)}`, "invalid reference format"],
  ["../etc/passwd", "invalid reference format"],
  ["a/../b", "invalid reference format"],
  ["http://host/a", "invalid reference format"],
  ["localhost:port/a", "invalid reference format"],
  ["-host.com/a", "invalid reference format"],
  ["a@sha256:short", "invalid reference format"],
  ["a@", "invalid reference format"],
  [`@${digest}`, "invalid reference format"],
  ["x".repeat(100_000), "invalid reference format"],
  [`a@sha256:${"a".repeat(40)}`, "invalid checksum digest length"],
  [`a@sha256:${"A".repeat(64)}`, "invalid checksum digest format"],
  [`a@md5:${"a".repeat(32)}`, "unsupported digest algorithm"],
  ["x".repeat(256), "repository name must not be more than 255 characters"],
  ["X", "invalid reference format: repository name (library/X) must be lowercase"],
  ["Nginx:latest", "invalid reference format: repository name (library/Nginx) must be lowercase"],
  ["docker.io/Nginx", "invalid reference format: repository name (library/Nginx) must be lowercase"],
  ["ghcr.io/Owner/repo", "invalid reference format: repository name (Owner/repo) must be lowercase"],
  [hex, `invalid repository name (${hex}), cannot specify 64-byte hexadecimal strings`],
];

describe("a reference", () => {
  for (const [text, canonical, familiar] of accepted) {
    it(`${JSON.stringify(text.slice(0, 60))} means ${canonical.slice(0, 60)}`, () => {
      const named = parseNamed(text);
      assert.equal(canonicalString(named), canonical);
      assert.equal(familiarString(named), familiar);
      assert.deepEqual(familiarForms(canonical), { text: familiar, name: familiarName(named) });
      assert.deepEqual(parseNamed(canonical), named);
    });
  }

  for (const [text, message] of refused) {
    it(`${JSON.stringify(text.slice(0, 60))} is refused: ${message.slice(0, 60)}`, () => {
      assert.throws(() => parseNamed(text), { kind: "invalid", message });
    });
  }

  it("is latest without tag and digest", () => {
    assert.equal(familiarString(withDefaultTag(parseNamed("a"))), "a:latest");
    assert.equal(familiarString(withDefaultTag(parseNamed("a:1"))), "a:1");
    assert.equal(familiarString(withDefaultTag(parseNamed(`a@${digest}`))), `a@${digest}`);
  });

  it("has a familiar name without its tag", () => {
    assert.equal(familiarName(parseNamed("docker.io/library/a:1")), "a");
    assert.equal(familiarName(parseNamed("ghcr.io/a/b:1")), "ghcr.io/a/b");
  });
});

describe("a user's reference to an image", () => {
  it("is an ID if it is 64 digits or a complete digest", () => {
    assert.deepEqual(parseAny(hex), { kind: "id", id: digest });
    assert.deepEqual(parseAny(digest), { kind: "id", id: digest });
  });

  it("is a name if it could be a prefix of an ID", () => {
    assert.equal(parseAny("0123456789ab").kind, "named");
    assert.equal(parseAny("sha256:0123").kind, "named");
  });
});

describe("the new name of an image", () => {
  it("cannot be a digest", () => {
    assert.throws(() => parseTarget(`a@${digest}`), {
      kind: "invalid",
      message: "cannot import digest reference",
    });
  });

  it("cannot be that of a digest's algorithm", () => {
    assert.throws(() => parseTarget("sha256:00"), {
      kind: "invalid",
      message: "refusing to create an ambiguous tag using digest algorithm as name",
    });
  });
});
