import { create } from "@bufbuild/protobuf";

import { type Capabilities, CapabilitiesSchema } from "../../gen/sockerless/backend/v1/system_pb.ts";

/** Capabilities of the Kubernetes backend: everything that its capability report has a word for. */
export const kubernetesCapabilities: Capabilities = create(CapabilitiesSchema, {
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
