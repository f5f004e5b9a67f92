/** `Config`: what a container or an image runs, between Docker's JSON and the backend's message. */
import { create } from "@bufbuild/protobuf";

import {
  type ContainerConfig,
  ContainerConfigSchema,
  type HealthConfig,
  HealthConfigSchema,
  type StringList,
  StringListSchema,
} from "../../gen/sockerless/backend/v1/config_pb.ts";
import type { JsonFields } from "./json-fields.ts";
import { listOrNull, mapOrNull, setOf, unlessEmpty, unlessZero } from "./json-values.ts";

/** The keys of `Config`; a create request that has none of them has no configuration. */
const configKeys = [
  "Hostname",
  "Domainname",
  "User",
  "AttachStdin",
  "AttachStdout",
  "AttachStderr",
  "ExposedPorts",
  "Tty",
  "OpenStdin",
  "StdinOnce",
  "Env",
  "Cmd",
  "Healthcheck",
  "ArgsEscaped",
  "Image",
  "Volumes",
  "WorkingDir",
  "Entrypoint",
  "NetworkDisabled",
  "MacAddress",
  "OnBuild",
  "Labels",
  "StopSignal",
  "StopTimeout",
  "Shell",
] as const;

/** Reads `Config`; undefined if the object has none of its keys. */
export function containerConfigFromJson(fields: JsonFields): ContainerConfig | undefined {
  if (!configKeys.some((key) => fields.has(key))) {
    return undefined;
  }
  const healthcheck = fields.object("Healthcheck");
  const stopTimeout = fields.optionalInt32("StopTimeout");
  return create(ContainerConfigSchema, {
    hostname: fields.string("Hostname"),
    domainname: fields.string("Domainname"),
    user: fields.string("User"),
    attachStdin: fields.boolean("AttachStdin"),
    attachStdout: fields.boolean("AttachStdout"),
    attachStderr: fields.boolean("AttachStderr"),
    exposedPorts: fields.keys("ExposedPorts"),
    tty: fields.boolean("Tty"),
    openStdin: fields.boolean("OpenStdin"),
    stdinOnce: fields.boolean("StdinOnce"),
    env: fields.strings("Env"),
    ...optionalList("cmd", fields.command("Cmd")),
    ...(healthcheck === undefined ? {} : { healthcheck: healthConfigFromJson(healthcheck) }),
    argsEscaped: fields.boolean("ArgsEscaped"),
    image: fields.string("Image"),
    volumes: fields.keys("Volumes"),
    workingDir: fields.string("WorkingDir"),
    ...optionalList("entrypoint", fields.command("Entrypoint")),
    networkDisabled: fields.boolean("NetworkDisabled"),
    macAddress: fields.string("MacAddress"),
    ...optionalList("onBuild", fields.optionalStrings("OnBuild")),
    labels: fields.stringMap("Labels"),
    stopSignal: fields.string("StopSignal"),
    ...(stopTimeout === undefined ? {} : { stopTimeout }),
    ...optionalList("shell", fields.command("Shell")),
  });
}

/** `Config` of a container's inspect. */
export function containerConfigToJson(config: ContainerConfig): Record<string, unknown> {
  return {
    Hostname: config.hostname,
    Domainname: config.domainname,
    User: config.user,
    AttachStdin: config.attachStdin,
    AttachStdout: config.attachStdout,
    AttachStderr: config.attachStderr,
    ExposedPorts: config.exposedPorts.length === 0 ? undefined : setOf(config.exposedPorts),
    Tty: config.tty,
    OpenStdin: config.openStdin,
    StdinOnce: config.stdinOnce,
    Env: listOrNull(config.env),
    Cmd: valuesOrNull(config.cmd),
    Healthcheck: config.healthcheck === undefined ? undefined : healthConfigToJson(config.healthcheck),
    ArgsEscaped: config.argsEscaped || undefined,
    Image: config.image,
    Volumes: config.volumes.length === 0 ? null : setOf(config.volumes),
    WorkingDir: config.workingDir,
    Entrypoint: valuesOrNull(config.entrypoint),
    NetworkDisabled: config.networkDisabled || undefined,
    MacAddress: unlessEmpty(config.macAddress),
    OnBuild: valuesOrNull(config.onBuild),
    Labels: config.labels,
    StopSignal: unlessEmpty(config.stopSignal),
    StopTimeout: config.stopTimeout,
    Shell: config.shell?.values,
  };
}

/**
 * `Config` of an image's inspect.
 *
 * @param withContainerFields whether to add the empty fields that only make sense for containers: until API 1.49
 */
export function imageConfigToJson(
  config: ContainerConfig,
  withContainerFields: boolean,
): Record<string, unknown> {
  const image = {
    User: config.user,
    ExposedPorts: config.exposedPorts.length === 0 ? undefined : setOf(config.exposedPorts),
    Env: listOrNull(config.env),
    Cmd: valuesOrNull(config.cmd),
    Healthcheck: config.healthcheck === undefined ? undefined : healthConfigToJson(config.healthcheck),
    ArgsEscaped: config.argsEscaped || undefined,
    Volumes: config.volumes.length === 0 ? null : setOf(config.volumes),
    WorkingDir: config.workingDir,
    Entrypoint: valuesOrNull(config.entrypoint),
    OnBuild: valuesOrNull(config.onBuild),
    Labels: mapOrNull(config.labels),
    StopSignal: unlessEmpty(config.stopSignal),
    Shell: config.shell?.values,
  };
  if (!withContainerFields) {
    return image;
  }
  return {
    Hostname: "",
    Domainname: "",
    AttachStdin: false,
    AttachStdout: false,
    AttachStderr: false,
    Tty: false,
    OpenStdin: false,
    StdinOnce: false,
    Image: "",
    ...image,
  };
}

function healthConfigFromJson(fields: JsonFields): HealthConfig {
  return create(HealthConfigSchema, {
    test: fields.strings("Test"),
    interval: fields.int64("Interval"),
    timeout: fields.int64("Timeout"),
    startPeriod: fields.int64("StartPeriod"),
    startInterval: fields.int64("StartInterval"),
    retries: fields.int32("Retries"),
  });
}

function healthConfigToJson(config: HealthConfig): Record<string, unknown> {
  return {
    Test: config.test.length === 0 ? undefined : config.test,
    Interval: unlessZero(config.interval),
    Timeout: unlessZero(config.timeout),
    StartPeriod: unlessZero(config.startPeriod),
    StartInterval: unlessZero(config.startInterval),
    Retries: unlessZero(config.retries),
  };
}

/** The initialiser of a field that distinguishes null from empty. */
function optionalList<Name extends string>(
  name: Name,
  values: readonly string[] | undefined,
): Partial<Record<Name, StringList>> {
  if (values === undefined) {
    return {};
  }
  return { [name]: create(StringListSchema, { values: [...values] }) } as Partial<Record<Name, StringList>>;
}

function valuesOrNull(list: StringList | undefined): readonly string[] | null {
  return list === undefined ? null : list.values;
}
