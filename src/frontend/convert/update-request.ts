/** `POST /containers/{name}/update`: from the body to the backend's request. */
import { create } from "@bufbuild/protobuf";

import {
  type Resources,
  ResourcesSchema,
  type RestartPolicy,
  RestartPolicySchema,
} from "../../gen/sockerless/backend/v1/config_pb.ts";
import type { ApiVersion } from "../api-version.ts";
import { JsonFields } from "./json-fields.ts";
import { resourcesFromJson } from "./resources.ts";

/** Settings that an update asks for. */
export interface UpdateSettings {
  readonly resources: Resources;
  readonly restartPolicy: RestartPolicy;
}

/**
 * Reads the body; fields that the client's API version lacks are ignored, as in dockerd.
 *
 * @param body parsed JSON
 * @throws SockerlessError of kind `invalid`
 */
export function updateRequestFromJson(body: unknown, version: ApiVersion): UpdateSettings {
  const fields = new JsonFields(body ?? {}, "UpdateConfig");
  const resources = changeable(resourcesFromJson(fields));
  if (version.before("1.40")) {
    delete resources.pidsLimit;
  }
  if (version.atLeast("1.42")) {
    resources.kernelMemory = 0n;
  }
  const policy = fields.object("RestartPolicy");
  return {
    resources,
    restartPolicy: create(RestartPolicySchema, {
      name: policy?.string("Name") ?? "",
      maximumRetryCount: policy?.int32("MaximumRetryCount") ?? 0,
    }),
  };
}

/** The numbers and sets of processors: an update changes no others, and may wait for a start for an hour. */
function changeable(resources: Resources): Resources {
  const numbers = Object.entries(resources).filter(([, value]) =>
    ["bigint", "number", "boolean"].includes(typeof value),
  );
  const { cpusetCpus, cpusetMems } = resources;
  return create(ResourcesSchema, { ...Object.fromEntries(numbers), cpusetCpus, cpusetMems });
}
