import assert from "node:assert/strict";
import { test } from "node:test";

import { routes } from "./route-table.ts";
import { type Route, Router } from "./router.ts";

const router = new Router(routes);

test("names hold slashes in mid-path", () => {
  const cases = [
    ["GET", "/images/registry:5000/a/b/json", "/images/{name}/json", "registry:5000/a/b"],
    ["GET", "/v1.41/images/a@sha256:1/json", "/images/{name}/json", "a@sha256:1"],
    ["DELETE", "/images/a/json", "/images/{name}", "a/json"],
    ["POST", "/images/a/b/tag", "/images/{name}/tag", "a/b"],
    ["GET", "/containers//web/json", "/containers/{name}/json", "/web"],
  ] as const;
  for (const [method, path, expected, name] of cases) {
    const match = router.match(method, path);
    assert.equal(match?.route.path, expected, path);
    assert.equal(match?.parameters["name"], name);
  }
});

test("a fixed path goes before a name of the same shape", () => {
  assert.equal(router.match("GET", "/containers/json")?.route.path, "/containers/json");
  assert.equal(router.match("GET", "/images/json")?.route.path, "/images/json");
  assert.equal(router.match("POST", "/images/load")?.route.path, "/images/load");
  assert.equal(router.match("GET", "/networks/")?.route.path, "/networks/");
});

test("every route of the table can be reached", () => {
  for (const route of routes) {
    const version = route.since === undefined ? "" : `/v${route.since}`;
    const path = `${version}${route.path.replaceAll(/\{[a-z]+\}/gi, "x")}`;
    assert.equal(router.match(route.method, path)?.route, route, `${route.method} ${path}`);
  }
});

test("every handler that has a name is named by its method and path, as in dockerd", () => {
  for (const { method, path, handler } of routes.filter(
    (route) => !["", "handler"].includes(route.handler.name),
  )) {
    const verb = method === "HEAD" && path === "/_ping" ? "get" : method.toLowerCase();
    const [first = ""] = path.toLowerCase().match(/[a-z]+(?![a-z]*\})/) ?? [];
    assert.ok(handler.name.toLowerCase().startsWith(verb + first), `${method} ${path}: ${handler.name}`);
  }
});

test("an endpoint does not exist in versions before and after its own", () => {
  const route: Route = {
    method: "GET",
    path: "/a",
    since: "1.30",
    until: "1.40",
    answeredBy: "frontend",
    handler: async () => {},
  };
  const versioned = new Router([route]);
  assert.equal(versioned.match("GET", "/v1.29/a"), undefined);
  assert.equal(versioned.match("GET", "/v1.30/a")?.route, route);
  assert.equal(versioned.match("GET", "/v1.40/a")?.route, route);
  assert.equal(versioned.match("GET", "/v1.41/a"), undefined);
  assert.equal(versioned.match("GET", "/a"), undefined);
});
