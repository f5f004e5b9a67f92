import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { createHttpHeaders, createPipelineRequest, RestError } from "@azure/core-rest-pipeline";
import {
  AggregateAuthenticationError,
  AuthenticationError,
  AuthenticationRequiredError,
  CredentialUnavailableError,
} from "@azure/identity";

import { remedyOf } from "../../../common/errors.ts";
import { AzureError, isMissing } from "./errors.ts";

const refusal = (statusCode: number, code: string, message = "Azure's own words") =>
  new AzureError("Jobs_CreateOrUpdate", new RestError(message, { statusCode, code }));

describe("an error of Azure", () => {
  it("names the call and keeps Azure's words and code", () => {
    const error = refusal(403, "AuthorizationFailed");
    assert.equal(
      error.message,
      "Jobs_CreateOrUpdate: Azure's own words; that is for the role Container Apps Jobs Contributor (AuthorizationFailed)",
    );
    assert.deepEqual([error.code, error.status, error.kind], ["AuthorizationFailed", 403, "system"]);
    assert.ok(isMissing(refusal(404, "ResourceNotFound")) && !isMissing(error));
  });

  it("names the role of calls that a container rarely needs", () => {
    const of = (operation: string) =>
      new AzureError(operation, new RestError("no", { statusCode: 403, code: "AuthorizationFailed" }))
        .message;
    assert.match(of("Registries_ImportImage"), /role Container Registry Data Importer and Data Reader/);
    assert.match(of("Query_Execute"), /role Log Analytics Reader/);
  });

  it("tells what a failed call has done", () => {
    assert.equal(refusal(403, "AuthorizationFailed").outcome, "refused");
    assert.equal(refusal(409, "Conflict").outcome, "refused");
    assert.equal(refusal(429, "TooManyRequests").outcome, "throttled");
    assert.equal(refusal(500, "InternalServerError").outcome, "unknown");
    assert.equal(refusal(503, "ServiceUnavailable").kind, "unavailable");
    const cut = Object.assign(new Error("socket hang up"), { name: "RestError", code: "ECONNRESET" });
    assert.equal(new AzureError("Jobs_Start", cut).outcome, "unknown");
  });

  it("takes an operation that was accepted and has failed for a refusal", () => {
    const words = "The long-running operation has failed. ContainerAppOperationError. the image is unknown";
    const error = new AzureError("Jobs_CreateOrUpdate", new Error(words));
    assert.deepEqual([error.outcome, error.code], ["refused", "ContainerAppOperationError"]);
    assert.equal(error.message, "Jobs_CreateOrUpdate: the image is unknown (ContainerAppOperationError)");
  });

  it("names this machine's clock where it is another than Azure's", () => {
    const at = (ms: number) => {
      const headers = createHttpHeaders({ date: new Date(Date.now() + ms).toUTCString() });
      const request = createPipelineRequest({ url: "https://management.azure.com" });
      const response = { status: 401, headers, request };
      return new AzureError(
        "Jobs_Get",
        new RestError("The access token is not yet valid.", {
          statusCode: 401,
          code: "Unauthorized",
          response,
        }),
      ).message;
    };
    assert.match(
      at(-20 * 60_000),
      /; this machine's clock is 20 minutes ahead of the cloud's: set it \(Unauthorized\)$/,
    );
    assert.match(at(60 * 60_000), /clock is 60 minutes behind/);
    assert.doesNotMatch(at(10_000), /clock/);
  });

  it("says what to do without credentials", () => {
    const error = new AzureError("Jobs_Get", new CredentialUnavailableError("nobody is logged in\nmore"));
    assert.match(error.message, /^Jobs_Get: there are no credentials for Azure/);
    assert.match(remedyOf(error) ?? "", /run `az login`.*\(nobody is logged in\)$/);
  });

  it("keeps the words of a login that was refused, and names this machine's clock where it is another than Entra's", () => {
    const refusedAt = (ms: number): readonly Error[] => {
      const timestamp = new Date(Date.now() + ms).toISOString().replace("T", " ").replace(/\.\d+/, "");
      const ids = `Trace ID: 1\r\nCorrelation ID: 2\r\nTimestamp: ${timestamp}`;
      const description = `AADSTS700024: Client assertion is not within its valid time range. ${ids}`;
      // As MSAL puts it.
      const message = `invalid_client: Error(s): 700024 - Timestamp: ${timestamp} - Description: ${description} - Correlation ID: 2 - Trace ID: 1`;
      const required = new AuthenticationRequiredError({ scopes: ["https://management.azure.com"], message });
      return [
        new AggregateAuthenticationError([required], "ChainedTokenCredential authentication failed."),
        new AuthenticationError(400, { error: "invalid_client", error_description: message }),
        new AuthenticationError(401, { error: "invalid_client", error_description: description }),
      ];
    };
    const told =
      "Azure has refused the login: AADSTS700024: Client assertion is not within its valid time range.";
    for (const refused of refusedAt(-20 * 60_000)) {
      const error = new AzureError("Jobs_Get", refused);
      const clock = "this machine's clock is 20 minutes ahead of the cloud's: set it";
      assert.equal(error.message, `Jobs_Get: ${told}; ${clock} (AADSTS700024)`);
      assert.deepEqual([error.outcome, error.prospect], ["refused", "passes"]);
      assert.equal(remedyOf(error), `${told}; ${clock}`);
    }
    for (const refused of refusedAt(0)) {
      assert.equal(new AzureError("Jobs_Get", refused).message, `Jobs_Get: ${told} (AADSTS700024)`);
    }
  });

  it("has no page of a gateway in it", () => {
    const { message } = refusal(502, "", "<html>");
    assert.match(message, /Azure or a gateway on the way answered .*502/);
  });
});

describe("a start that Azure refuses", () => {
  const template = "InvalidParameterValueInContainerTemplate";
  const failed = (words: string) =>
    new AzureError(
      "Jobs_CreateOrUpdate",
      new Error(`The long-running operation has failed. ContainerAppOperationError. ${words}`),
    );

  it("goes on, unless the reason lasts", () => {
    for (const [prospect, error] of [
      ["denied", refusal(403, "AuthorizationFailed")],
      ["denied", refusal(403, "AuthorizationPermissionMismatch")],
      ["room", refusal(400, "MaxCores", "Maximum Allowed Cores exceeded for the Managed Environment")],
      ["passes", refusal(409, "Conflict")],
      ["passes", refusal(404, "ResourceNotFound")],
      ["passes", refusal(400, "ManagedEnvironmentNotReadyForAppCreation")],
      ["passes", refusal(400, "NobodyHasSeenThisCode")],
      ["passes", refusal(429, "RateLimitExceeded")],
      ["passes", failed("Provisioning of the revision has failed.")],
      ["passes", failed("Invalid value: template.containers.main.image: TOOMANYREQUESTS")],
      ["passes", refusal(400, template, "template.containers.main.image: dial tcp: i/o timeout")],
      ["passes", refusal(400, template, "template.containers.main.image: 503 Service Unavailable")],
      ["lasts", refusal(400, template, "template.containers.main.image: MANIFEST_UNKNOWN")],
      ["lasts", refusal(400, template, "template.containers.main.image: UNAUTHORIZED")],
      ["lasts", refusal(400, template, "template.containers.main.resources is out of range")],
      ["lasts", failed("template.containers.main.image: MANIFEST_UNKNOWN")],
      ["lasts", refusal(404, "ResourceGroupNotFound")],
      ["lasts", refusal(400, "InvalidRequestContent")],
      ["lasts", refusal(403, "RequestDisallowedByPolicy")],
      ["lasts", refusal(403, "AuthenticationFailed")],
    ] as const) {
      assert.equal(error.prospect, prospect, error.message);
    }
  });
});
