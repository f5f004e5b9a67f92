import { create } from "@bufbuild/protobuf";

import { type Capabilities, CapabilitiesSchema } from "../../gen/sockerless/backend/v1/system_pb.ts";

/** Capabilities of the ECS backend: everything that a capability report can express. */
export const ecsCapabilities: Capabilities = create(CapabilitiesSchema, {
  exec: true,
  attach: true,
  logs: true,
  logsFollow: true,
  volumes: true,
  networks: true,
  healthChecks: true,
  imagePull: true,
  imageLoad: true,
  maxTimeoutSeconds: 0,
  agentRequired: true,
});
