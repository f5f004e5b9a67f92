/** The configuration of an image: the JSON document whose digest is the image's ID, in parsed form. */
import { create, fromJson, toJson } from "@bufbuild/protobuf";
import { type Timestamp, TimestampSchema } from "@bufbuild/protobuf/wkt";
import * as v from "valibot";

import { mustRead, object, openMap, wholeNumber } from "../../common/documents.ts";
import { invalid } from "../../common/errors.ts";
import {
  type ContainerConfig,
  ContainerConfigSchema,
  type HealthConfig,
  HealthConfigSchema,
  type Platform,
  PlatformSchema,
  StringListSchema,
} from "../../gen/sockerless/backend/v1/config_pb.ts";
import { isSha256Digest } from "./digest.ts";
import { anyValues, check, mostValues, parseJson } from "./manifest.ts";

/** A step in the creation of an image. */
export interface HistoryEntry {
  /** The original text; empty if absent. */
  readonly created: string;
  readonly createdBy: string;
  readonly author: string;
  readonly comment: string;
  /** True if the step made no layer. */
  readonly emptyLayer: boolean;
}

/** An image's parsed configuration. */
export interface ImageConfig {
  /** Undefined if absent in the image. */
  readonly created: Timestamp | undefined;
  readonly comment: string;
  readonly author: string;
  readonly dockerVersion: string;
  /** OS and architecture; default OS: `linux`. */
  readonly platform: Platform;
  readonly osVersion: string;
  /** Defaults of its containers. */
  readonly config: ContainerConfig;
  /** Digests of the uncompressed layers, bottom first. */
  readonly diffIds: readonly string[];
  /** First step first; empty if absent in the image. */
  readonly history: readonly HistoryEntry[];
}

const text = v.nullish(v.string(), "");
const texts = v.nullish(v.array(v.string()));
const keys = v.pipe(v.nullish(openMap(v.unknown()), {}), v.transform(Object.keys));
const flag = v.nullish(v.boolean(), false);
const numberOrZero = v.nullish(wholeNumber, 0);

const healthSchema = object({
  Test: texts,
  Interval: numberOrZero,
  Timeout: numberOrZero,
  StartPeriod: numberOrZero,
  StartInterval: numberOrZero,
  Retries: numberOrZero,
});

const runConfigSchema = object({
  Hostname: text,
  Domainname: text,
  User: text,
  ExposedPorts: keys,
  Env: texts,
  Cmd: texts,
  Healthcheck: v.nullish(healthSchema),
  ArgsEscaped: flag,
  Volumes: keys,
  WorkingDir: text,
  Entrypoint: texts,
  OnBuild: texts,
  Labels: v.nullish(openMap(v.string()), {}),
  StopSignal: text,
  StopTimeout: v.nullish(wholeNumber),
  Shell: texts,
});

const imageSchema = object({
  created: text,
  comment: text,
  author: text,
  docker_version: text,
  os: text,
  architecture: text,
  variant: text,
  "os.version": text,
  config: v.nullish(runConfigSchema),
  rootfs: object({
    diff_ids: v.nullish(v.array(v.pipe(v.string(), v.check(isSha256Digest, "not a SHA-256 digest")))),
  }),
  history: v.nullish(
    v.array(object({ created: text, created_by: text, author: text, comment: text, empty_layer: flag })),
    [],
  ),
});

/** Parses the document, keeping the order of properties. @throws invalid */
function rootedJson(bytes: Uint8Array, most = anyValues): { readonly rootfs: object } {
  const json = parseJson(bytes, "image configuration", most);
  if (typeof json !== "object" || json === null || !("rootfs" in json) || json.rootfs === null) {
    throw invalid("invalid image JSON, no RootFS key");
  }
  const { rootfs } = json;
  if (typeof rootfs !== "object") {
    throw invalid("invalid image configuration at rootfs: not an object");
  }
  return { ...json, rootfs };
}

/** The most bytes of a new image's configuration: it is kept, is listed, and goes into images made from its containers. */
const mostBytes = 524_288;

function refuseLong(configBytes: Uint8Array): void {
  if (configBytes.length > mostBytes) {
    throw invalid(`invalid image configuration: more than ${mostBytes} bytes`);
  }
}

/** The most layers of an image, as in dockerd. */
const mostLayers = 125;

/** Refuses more layers than an image may have. @throws invalid, in dockerd's words */
export function refuseTooDeep(layers: number): void {
  if (layers > mostLayers) {
    throw invalid("max depth exceeded");
  }
}

/**
 * Parses the configuration of a new image.
 *
 * @throws SockerlessError of kind `invalid`: it has too many bytes, values or layers; as {@link parseImageConfig}
 */
export function parseNewImageConfig(bytes: Uint8Array): ImageConfig {
  refuseLong(bytes);
  const config = parseImageConfig(bytes, mostValues);
  refuseTooDeep(config.diffIds.length);
  return config;
}

/**
 * Parses an image's configuration.
 *
 * @param most values, lists and objects in it; default: any number, as in an image that is here already
 * @throws SockerlessError of kind `invalid`: malformed, or not for Linux
 */
export function parseImageConfig(bytes: Uint8Array, most?: number): ImageConfig {
  const json = rootedJson(bytes, most);
  const image = check(imageSchema, json, "image configuration");
  const diffIds = image.rootfs.diff_ids ?? [];
  if (image.history.filter((entry) => !entry.empty_layer).length > diffIds.length) {
    throw invalid("too many non-empty layers in History section");
  }
  const os = image.os === "" ? "linux" : image.os;
  if (os !== "linux") {
    throw invalid(`cannot load ${os} image on linux`);
  }
  return {
    created: parseTime(image.created),
    comment: image.comment === "" ? (image.history.at(-1)?.comment ?? "") : image.comment,
    author: image.author,
    dockerVersion: image.docker_version,
    platform: create(PlatformSchema, { os, architecture: image.architecture, variant: image.variant }),
    osVersion: image["os.version"],
    config: toContainerConfig(image.config ?? mustRead(runConfigSchema, {})),
    diffIds,
    history: image.history.map((entry) => ({
      created: entry.created,
      createdBy: entry.created_by,
      author: entry.author,
      comment: entry.comment,
      emptyLayer: entry.empty_layer,
    })),
  };
}

function parseTime(written: string): Timestamp | undefined {
  try {
    return written === "" ? undefined : fromJson(TimestampSchema, written);
  } catch (error) {
    throw invalid(`invalid image configuration at created: ${JSON.stringify(written)}`, error);
  }
}

function toContainerConfig(config: v.InferOutput<typeof runConfigSchema>): ContainerConfig {
  const { Healthcheck: health, StopTimeout: stopTimeout } = config;
  return create(ContainerConfigSchema, {
    hostname: config.Hostname,
    domainname: config.Domainname,
    user: config.User,
    exposedPorts: config.ExposedPorts,
    env: config.Env ?? [],
    ...optionalList("cmd", config.Cmd),
    ...(health === null || health === undefined ? {} : { healthcheck: toHealthConfig(health) }),
    argsEscaped: config.ArgsEscaped,
    volumes: config.Volumes,
    workingDir: config.WorkingDir,
    ...optionalList("entrypoint", config.Entrypoint),
    ...optionalList("onBuild", config.OnBuild),
    labels: config.Labels,
    stopSignal: config.StopSignal,
    ...(stopTimeout === null || stopTimeout === undefined ? {} : { stopTimeout }),
    ...optionalList("shell", config.Shell),
  });
}

function toHealthConfig(health: v.InferOutput<typeof healthSchema>): HealthConfig {
  return create(HealthConfigSchema, {
    test: health.Test ?? [],
    interval: BigInt(health.Interval),
    timeout: BigInt(health.Timeout),
    startPeriod: BigInt(health.StartPeriod),
    startInterval: BigInt(health.StartInterval),
    retries: health.Retries,
  });
}

function optionalList<Key extends string>(key: Key, values: readonly string[] | null | undefined) {
  return values === null || values === undefined
    ? {}
    : ({ [key]: create(StringListSchema, { values: [...values] }) } as Record<
        Key,
        ReturnType<typeof create<typeof StringListSchema>>
      >);
}

/** The contents of a new image's configuration. */
export interface NewImageConfig {
  readonly created: Timestamp;
  readonly comment: string;
  readonly author?: string;
  readonly platform: Platform;
  readonly osVersion?: string;
  readonly config: ContainerConfig;
  readonly diffIds: readonly string[];
  /** Default: one step per layer. */
  readonly history?: readonly HistoryEntry[];
}

/** The JSON of a new image's configuration; equal input gives equal bytes, so the ID is stable. */
export function renderImageConfig(image: NewImageConfig): Uint8Array {
  const created = toJson(TimestampSchema, image.created);
  const comment = image.comment === "" ? {} : { comment: image.comment };
  const { architecture, os, variant } = image.platform;
  const document = {
    architecture,
    ...(image.author ? { author: image.author } : {}),
    ...comment,
    config: renderContainerConfig(image.config),
    created,
    history: image.history?.map(renderStep) ?? image.diffIds.map(() => ({ created, ...comment })),
    os,
    ...(image.osVersion ? { "os.version": image.osVersion } : {}),
    rootfs: { type: "layers", diff_ids: image.diffIds },
    ...(variant === "" ? {} : { variant }),
  };
  const bytes = new TextEncoder().encode(JSON.stringify(document));
  refuseLong(bytes);
  return bytes;
}

/**
 * An image's configuration with other layers, otherwise unchanged.
 *
 * @param diffIds bottom first
 * @throws invalid if it is not a JSON object with layers
 */
export function withLayers(configBytes: Uint8Array, diffIds: readonly string[]): Uint8Array {
  const json = rootedJson(configBytes);
  const rootfs = { ...json.rootfs, diff_ids: diffIds };
  return new TextEncoder().encode(JSON.stringify({ ...json, rootfs }));
}

function renderStep(step: HistoryEntry): Record<string, unknown> {
  return {
    created: step.created || undefined,
    created_by: step.createdBy || undefined,
    author: step.author || undefined,
    comment: step.comment || undefined,
    empty_layer: step.emptyLayer || undefined,
  };
}

/** The `config` object of an image, without empty values. */
function renderContainerConfig(config: ContainerConfig): Record<string, unknown> {
  const set = (names: readonly string[]): Record<string, object> =>
    Object.fromEntries(names.toSorted().map((name) => [name, {}]));
  const fields: Record<string, unknown> = {
    User: config.user || undefined,
    ExposedPorts: config.exposedPorts.length > 0 ? set(config.exposedPorts) : undefined,
    Env: config.env.length > 0 ? config.env : undefined,
    Entrypoint: config.entrypoint?.values,
    Cmd: config.cmd?.values,
    Healthcheck: config.healthcheck === undefined ? undefined : renderHealth(config.healthcheck),
    ArgsEscaped: config.argsEscaped || undefined,
    Volumes: config.volumes.length > 0 ? set(config.volumes) : undefined,
    WorkingDir: config.workingDir || undefined,
    Labels: Object.keys(config.labels).length > 0 ? config.labels : undefined,
    OnBuild: config.onBuild?.values,
    StopSignal: config.stopSignal || undefined,
    StopTimeout: config.stopTimeout,
    Shell: config.shell?.values,
  };
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

function renderHealth(health: HealthConfig): Record<string, unknown> {
  return {
    Test: health.test,
    Interval: Number(health.interval) || undefined,
    Timeout: Number(health.timeout) || undefined,
    StartPeriod: Number(health.startPeriod) || undefined,
    StartInterval: Number(health.startInterval) || undefined,
    Retries: health.retries || undefined,
  };
}
