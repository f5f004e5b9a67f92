import { create } from "@bufbuild/protobuf";

import { type Capabilities, CapabilitiesSchema } from "../../gen/sockerless/backend/v1/system_pb.ts";

/** Capabilities of the ACA backend: everything that a capability report can express. */
export const acaCapabilities: Capabilities = create(CapabilitiesSchema, {
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
