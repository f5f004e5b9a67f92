/** A container's configuration: the user's settings over the image's, by Docker's rules. */
import { create, toBinary } from "@bufbuild/protobuf";

import { invalid } from "../../../../../common/errors.ts";
import {
  type ContainerConfig,
  ContainerConfigSchema,
  type HealthConfig,
  HealthConfigSchema,
  type StringList,
} from "../../../../../gen/sockerless/backend/v1/config_pb.ts";
import { withoutBuildLabel } from "../../../../model/build-label.ts";
import { withoutInnerSocketLabels } from "../../../../model/inner-socket-labels.ts";
import { cleanPath } from "../mounts/plan-mounts.ts";

/**
 * The configuration of a new container. The arguments are unchanged.
 *
 * @throws invalid: neither names a command
 */
export function mergeConfig(user: ContainerConfig, image: ContainerConfig): ContainerConfig {
  const merged: ContainerConfig = {
    ...user,
    user: user.user === "" ? image.user : user.user,
    exposedPorts: union(user.exposedPorts, image.exposedPorts),
    env: mergeEnv(user.env, image.env),
    labels: { ...withoutInnerSocketLabels(withoutBuildLabel(image.labels)), ...user.labels },
    ...mergeCommand(user, image),
    healthcheck: mergeHealthcheck(user.healthcheck, image.healthcheck),
    workingDir: user.workingDir === "" ? image.workingDir : cleanPath(user.workingDir),
    volumes: union(user.volumes, image.volumes),
    stopSignal: user.stopSignal === "" ? image.stopSignal : user.stopSignal,
  };
  requireCommand(merged);
  return merged;
}

/** The most that an image's configuration may hold for it to have containers: each holds and lists a copy. */
const most = { values: 2_000, ports: 20_000, bytes: 262_144 } as const;

/**
 * Refuses an image with a large configuration, which a request of a few bytes would copy into one more container. A
 * client that sends its own has a bound in the size of a request.
 *
 * @throws invalid
 */
export function refuseLargeImage(config: ContainerConfig): void {
  const { labels, env, exposedPorts, volumes, entrypoint, cmd, shell, onBuild, healthcheck } = config;
  const lists = [
    env,
    volumes,
    entrypoint?.values,
    cmd?.values,
    shell?.values,
    onBuild?.values,
    healthcheck?.test,
  ];
  const values = lists.reduce((sum, list) => sum + (list?.length ?? 0), Object.keys(labels).length);
  if (
    values > most.values ||
    exposedPorts.length > most.ports ||
    toBinary(ContainerConfigSchema, config).length > most.bytes
  ) {
    throw invalid(
      `the image's configuration is too large for a container: at most ${most.values} labels, variables, volumes and ` +
        `arguments, ${most.ports} ports, and ${most.bytes} bytes`,
    );
  }
}

/** @throws invalid: the configuration has no command */
export function requireCommand({ entrypoint, cmd }: ContainerConfig): void {
  if (isEmpty(entrypoint) && isEmpty(cmd)) {
    throw invalid("no command specified");
  }
}

/** Executable and arguments, as Docker starts and shows them. */
export function commandOf(config: ContainerConfig): { readonly path: string; readonly args: string[] } {
  const [path = "", ...args] = [...(config.entrypoint?.values ?? []), ...(config.cmd?.values ?? [])];
  return { path, args };
}

/** A user's entry point drops the image's command; `[""]` drops only the image's entry point. */
function mergeCommand(
  user: ContainerConfig,
  image: ContainerConfig,
): { readonly entrypoint: StringList | undefined; readonly cmd: StringList | undefined } {
  let { entrypoint, cmd } = user;
  if (isEmpty(entrypoint)) {
    cmd = isEmpty(cmd) ? image.cmd : cmd;
    entrypoint ??= image.entrypoint;
  }
  const reset = entrypoint?.values.length === 1 && entrypoint.values[0] === "";
  return { entrypoint: reset ? undefined : entrypoint, cmd };
}

function mergeHealthcheck(
  user: HealthConfig | undefined,
  image: HealthConfig | undefined,
): HealthConfig | undefined {
  if (user === undefined || image === undefined) {
    return user ?? image;
  }
  return create(HealthConfigSchema, {
    test: user.test.length === 0 ? image.test : user.test,
    interval: user.interval === 0n ? image.interval : user.interval,
    timeout: user.timeout === 0n ? image.timeout : user.timeout,
    startPeriod: user.startPeriod === 0n ? image.startPeriod : user.startPeriod,
    startInterval: user.startInterval === 0n ? image.startInterval : user.startInterval,
    retries: user.retries === 0 ? image.retries : user.retries,
  });
}

/** The user's entries, then the image's entries that the user does not override. */
function mergeEnv(user: readonly string[], image: readonly string[]): string[] {
  const names = new Set(user.map(nameOf));
  return [...user, ...image.filter((entry) => !names.has(nameOf(entry)))];
}

/** The name of an environment entry. */
export function nameOf(entry: string): string {
  const equals = entry.indexOf("=");
  return equals === -1 ? entry : entry.slice(0, equals);
}

function union(first: readonly string[], second: readonly string[]): string[] {
  return [...new Set([...first, ...second])];
}

function isEmpty(list: StringList | undefined): boolean {
  return list === undefined || list.values.length === 0;
}
