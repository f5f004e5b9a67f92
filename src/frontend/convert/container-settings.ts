import type {
  ContainerConfig,
  HostConfig,
  NetworkingConfig,
} from "../../gen/sockerless/backend/v1/config_pb.ts";

/** Settings that a create request asks for, in the meaning of the newest API version. */
export interface ContainerSettings {
  readonly config: ContainerConfig;
  readonly hostConfig: HostConfig;
  readonly networking: NetworkingConfig;
}
