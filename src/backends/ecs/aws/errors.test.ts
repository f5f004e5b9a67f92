import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { isRefusal, isThrottled } from "../../cloud/contract/cloud-error.ts";
import { AwsError, isAwsError, isTransient } from "./errors.ts";

const call = { service: "ecs", operation: "RunTask" } as const;

function refused(name: string, status = 400): AwsError {
  const $metadata = { httpStatusCode: status, requestId: "r-1" };
  return new AwsError(call, Object.assign(new Error("in AWS's words"), { name, $metadata }));
}

describe("errors of AWS", () => {
  it("are faults of the server's where a permission or the cluster is missing, in AWS's words", () => {
    for (const name of ["AccessDeniedException", "AccessDenied", "ClusterNotFoundException"]) {
      const error = refused(name);
      assert.equal(error.kind, "system");
      assert.equal(error.message, `ecs: RunTask: in AWS's words (${name})`);
      assert.equal(error.requestId, "r-1");
      assert.ok(isAwsError(error, "Other", name));
    }
  });

  it("can be tried later where a quota or a rate is used up", () => {
    for (const name of ["LimitExceededException", "AccessPointLimitExceeded", "ThrottlingException"]) {
      assert.equal(refused(name).kind, "unavailable");
    }
    assert.ok(isThrottled(refused("RequestLimitExceeded")));
    assert.ok(!isThrottled(refused("LimitExceededException")));
  });

  it("name this machine's clock where it is another than AWS's", () => {
    const at = (ms: number): string => {
      const $response = { headers: { date: new Date(Date.now() + ms).toUTCString() } };
      const error = new Error("Signature not yet current");
      const name = "InvalidSignatureException";
      return new AwsError(call, Object.assign(error, { name, $response, $metadata: { httpStatusCode: 403 } }))
        .message;
    };
    assert.match(
      at(-20 * 60_000),
      /clock is 20 minutes ahead of the cloud's: set it \(InvalidSignatureException\)$/,
    );
    assert.match(at(60 * 60_000), /clock is 60 minutes behind/);
    assert.doesNotMatch(at(10_000), /clock/);
    const untimely = Object.assign(new Error("certificate is not yet valid"), { code: "CERT_NOT_YET_VALID" });
    assert.match(new AwsError(call, untimely).message, /by this machine's clock it is \d{4}-/);
  });

  it("are told apart from calls that did not reach AWS", () => {
    // No way there, or no name on the way, for a moment.
    for (const code of [
      "ECONNREFUSED",
      "ECONNRESET",
      "EHOSTUNREACH",
      "ENETUNREACH",
      "EAI_AGAIN",
      "ENOTFOUND",
    ]) {
      const lost = new AwsError(call, Object.assign(new Error(`no connection: ${code}`), { code }));
      assert.equal(lost.code, code);
      assert.equal(lost.status, 0);
      assert.ok(isTransient(lost), code);
    }
    assert.ok(isTransient(refused("InternalFailure", 500)));
    assert.ok(!isTransient(refused("ClientException")));
  });

  it("are refusals only where AWS has answered so", () => {
    const refusals = [refused("ClientException"), refused("AccessDenied", 403), refused("NotFound", 404)];
    for (const error of refusals) {
      assert.ok(isRefusal(error), error.code);
    }
    const others = [
      new AwsError(call, Object.assign(new Error("no credentials"), { name: "CredentialsProviderError" })),
      new AwsError(call, Object.assign(new Error("expired"), { code: "CERT_HAS_EXPIRED" })),
      refused("SyntaxError", 200), // An answer that was cut.
      refused("InternalFailure", 500),
      refused("ServerException"),
      refused("ThrottlingException"),
      refused("UnknownError", 429),
      refused("RequestTimeout"),
      refused("UnknownError", 408),
      new Error("the backend is shutting down"),
    ];
    for (const error of others) {
      assert.ok(!isRefusal(error), error.message);
    }
  });
});
