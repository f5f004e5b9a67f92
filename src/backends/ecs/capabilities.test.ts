import assert from "node:assert/strict";
import { it } from "node:test";

import { toJson } from "@bufbuild/protobuf";

import { version } from "../../common/version.ts";
import { CapabilitiesSchema } from "../../gen/sockerless/backend/v1/system_pb.ts";
import { ecsCapabilities } from "./capabilities.ts";

it("the ECS backend's capabilities are those of its specification", () => {
  const options = { useProtoFieldName: true, alwaysEmitImplicit: true };
  assert.deepEqual(
    { backend: "ecs", version, capabilities: toJson(CapabilitiesSchema, ecsCapabilities, options) },
    {
      backend: "ecs",
      version: "0.1.0",
      capabilities: {
        exec: true,
        attach: true,
        logs: true,
        logs_follow: true,
        volumes: true,
        networks: true,
        health_checks: true,
        image_pull: true,
        image_load: true,
        max_timeout_seconds: 0,
        agent_required: true,
      },
    },
  );
});
