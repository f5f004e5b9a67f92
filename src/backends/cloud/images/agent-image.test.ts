import assert from "node:assert/strict";
import { describe, it } from "node:test";

import { fromUnknown, messageOf, unavailable } from "../../../common/errors.ts";
import { agentImageFault, agentTag, withMissingAgent } from "./agent-image.ts";

const reference = `registry.example.com/sockerless:${agentTag("amd64")}`;

describe("the agent's image", () => {
  it("is told how to be put there where a start fails for it, in whatever words of the cloud", () => {
    for (const words of [
      `Jobs_CreateOrUpdate: Field 'template.initContainers.agent.image' is invalid: '${reference}': MANIFEST_UNKNOWN: manifest unknown (InvalidParameterValueInContainerTemplate)`,
      `CannotPullContainerError: pull image manifest has been retried 1 time(s): failed to resolve ref ${reference}: ${reference}: not found`,
    ]) {
      const told = withMissingAgent(unavailable(words), reference, "ecs");
      assert.match(
        messageOf(told),
        /^the agent's image registry\.example\.com.* is not there: run `sockerless ecs push-agent`/,
      );
      assert.ok(messageOf(told).endsWith(words));
      assert.equal(fromUnknown(told).kind, "unavailable");
    }
    for (const words of [
      `failed to resolve ref registry.example.com/app:1: not found`,
      `failed to resolve ref ${reference}: i/o timeout`,
    ]) {
      const error = unavailable(words);
      assert.equal(withMissingAgent(error, reference, "ecs"), error);
    }
  });

  it("is missed at the backend's start already", async () => {
    assert.equal(
      await agentImageFault(reference, undefined, "amd64", "aca"),
      `the agent's image ${reference} is not there: run \`sockerless aca push-agent\`, until then no container will start`,
    );
    const other = JSON.stringify({ config: { digest: `sha256:${"0".repeat(64)}` } });
    assert.match((await agentImageFault(reference, other, "amd64", "aca")) ?? "", /of another build/);
    assert.equal(await agentImageFault(reference, "{}", "amd64", "aca"), undefined, "one of several images");
  });
});
