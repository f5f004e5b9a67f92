import type {
  ContainerConfig,
  HostConfig,
  NetworkingConfig,
} from "../../gen/sockerless/backend/v1/config_pb.ts";

/** Settings of a create request, translated to the newest API version. */
export interface ContainerSettings {
  readonly config: ContainerConfig;
  readonly hostConfig: HostConfig;
  readonly networking: NetworkingConfig;
}
