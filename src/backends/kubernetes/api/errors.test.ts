import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { ApiException } from "@kubernetes/client-node";

import { isConflict, isMissing, KubernetesError } from "./errors.ts";

function refused(code: number, reason: string, message: string, headers: Record<string, string> = {}) {
  const body = { kind: "Status", reason, message };
  return new KubernetesError("create pods", new ApiException(code, "", body, headers));
}

describe("an error of the API server", () => {
  it("keeps the server's words, and names the call", () => {
    const error = refused(403, "Forbidden", 'pods is forbidden: User "me" cannot create resource "pods"');
    assert.equal(error.message, 'create pods: pods is forbidden: User "me" cannot create resource "pods"');
    assert.deepEqual([error.isDenied, error.outcome, error.prospect], [true, "refused", "lasts"]);
  });

  it("is a lack of room where a quota is used up", () => {
    const error = refused(403, "Forbidden", 'pods "x" is forbidden: exceeded quota: few, requested: pods=1');
    assert.deepEqual([error.isDenied, error.prospect], [false, "room"]);
  });

  it("is known by its status", () => {
    assert.equal(isMissing(refused(404, "NotFound", "no")), true);
    assert.equal(isConflict(refused(409, "AlreadyExists", "there")), true);
    assert.equal(refused(422, "Invalid", "no").prospect, "lasts");
    assert.equal(refused(422, "Invalid", "no").kind, "invalid");
  });

  it("asks for fewer calls, and says when", () => {
    const error = refused(429, "TooManyRequests", "later", { "retry-after": "3" });
    assert.deepEqual([error.outcome, error.retryAfterS, error.kind], ["throttled", 3, "unavailable"]);
  });

  it("leaves open what was done where no answer came, or a server's own fault", () => {
    const cause = Object.assign(new Error("connect ECONNREFUSED 10.0.0.1:443"), { code: "ECONNREFUSED" });
    const error = new KubernetesError("create pods", new TypeError("fetch failed", { cause }));
    assert.deepEqual([error.outcome, error.reason], ["unknown", "ECONNREFUSED"]);
    assert.equal(error.message, "create pods: connect ECONNREFUSED 10.0.0.1:443");
    assert.equal(refused(500, "InternalError", "etcd").outcome, "unknown");
  });

  it("is read from text, and from a proxy's page", () => {
    const text = new ApiException(403, "", JSON.stringify({ reason: "Forbidden", message: "no" }), {});
    assert.equal(new KubernetesError("get pods", text).message, "get pods: no");
    const page = new ApiException(502, "", "<html>", {});
    assert.equal(new KubernetesError("get pods", page).message, "get pods: HTTP 502");
  });

  it("of an upgrade has its status", () => {
    const error = new KubernetesError(
      "create pods/portforward",
      new Error("Unexpected server response: 404"),
    );
    assert.equal(isMissing(error), true);
  });
});
