/** Reads the configuration: flags override the environment, that the file, that the defaults. */
import { readFileSync } from "node:fs";
import { join } from "node:path";

import { parse as parseYaml } from "yaml";
import * as v from "valibot";

import { isMap, type Schema } from "../documents.ts";
import { fromFileError, invalid, messageOf } from "../errors.ts";
import { type DefaultPaths, defaultPaths, runDirOf, type Surroundings } from "./defaults.ts";
import { isLoopback } from "./loopback.ts";
import { nearestName } from "./nearest-name.ts";
import {
  acaSchema,
  type BackendName,
  builderSchema,
  imageSchema,
  poolSchema,
  ecsSchema,
  kubernetesSchema,
  topSchema,
} from "./schema.ts";
import { type Command, type SectionName, sectionNames, type Setting, settings } from "./settings.ts";

/** `state_dir` as `stateDir`. */
type CamelCase<Key> = Key extends `${infer Head}_${infer Tail}`
  ? `${Head}${Capitalize<CamelCase<Tail>>}`
  : Key;

/** An object with its keys in camel case. */
type CamelCased<Shape> = { [Key in keyof Shape as CamelCase<Key>]: Shape[Key] };

/** The `ecs` section: durations in milliseconds, sizes in bytes. */
export type EcsSection = CamelCased<Omit<v.InferOutput<typeof ecsSchema>, "agent_ca">> & { agentCa: string };

/** The `aca` section: durations in milliseconds, sizes in bytes. */
export type AcaSection = CamelCased<Omit<v.InferOutput<typeof acaSchema>, "agent_ca">> & { agentCa: string };

/** The `kubernetes` section: durations in milliseconds, sizes in bytes. */
export type KubernetesSection = CamelCased<Omit<v.InferOutput<typeof kubernetesSchema>, "agent_ca">> & {
  agentCa: string;
};

/** Certificates for mutual TLS, as paths of PEM files. */
export interface TlsFiles {
  /** Certificates of the authority that must have signed the peer's certificate. */
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/** The `builder` section: sizes in bytes. */
export type BuilderSection = CamelCased<v.InferOutput<typeof builderSchema>>;

/** The `image` section. */
export type ImageSection = CamelCased<v.InferOutput<typeof imageSchema>>;

/** The `pool` section: durations in milliseconds. */
export type PoolSection = CamelCased<v.InferOutput<typeof poolSchema>>;

/** Settings common to all backends and the frontend. Paths are absolute. */
export interface CommonConfig {
  /** Addresses of the Docker API, `unix:///path` or `tcp://address:port`. */
  readonly hosts: readonly string[];
  /** Address at which the frontend dials the backend, `unix:///path` or `https://host:port`. */
  readonly backendAddress: string;
  /** Address that the backend listens on, `unix:///path` or `tcp://address:port`. */
  readonly listen: string;
  /** True if the frontend listens for published ports of containers in the cloud. */
  readonly publish: boolean;
  /** True if the frontend passes clients' connections to the agents of local containers. */
  readonly handOver: boolean;
  readonly stateDir: string;
  readonly runDir: string;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
  /** Log file of a daemon started by `serve --detach`. */
  readonly logFile: string;
  /** Address of metrics, `unix:///path` or `tcp://address:port`; undefined: nothing is measured. */
  readonly metricsAddr: string | undefined;
  /** True if each running container is measured. */
  readonly metricsContainers: boolean;
  /** Set whenever an address of this process is TCP. */
  readonly tls: TlsFiles | undefined;
  /** The OCI runtime's name or path; undefined for the first that works. */
  readonly runtime: string | undefined;
  /** Default size of a block volume, in bytes. */
  readonly blockVolumeSize: number;
  /** Registries, `host` or `host:port`, that may be contacted without TLS or with an unknown certificate. */
  readonly insecureRegistries: readonly string[];
  readonly builder: BuilderSection;
  readonly image: ImageSection;
  readonly pool: PoolSection;
}

/** The lowest level that is logged. */
export type LogLevel = NonNullable<v.InferOutput<typeof topSchema>["log_level"]>;

/** Format of log lines; `auto` depends on whether standard error is a terminal. */
export type LogFormat = NonNullable<v.InferOutput<typeof topSchema>["log_format"]>;

/** The configuration of a `local` backend, and of a frontend run alone. */
export type LocalConfig = CommonConfig & { readonly backend: "local" };
/** The configuration of an `ecs` backend. */
export type EcsConfig = CommonConfig & { readonly backend: "ecs"; readonly ecs: EcsSection };
/** The configuration of an `aca` backend. */
export type AcaConfig = CommonConfig & { readonly backend: "aca"; readonly aca: AcaSection };

/** The configuration of a `kubernetes` backend. */
export type KubernetesConfig = CommonConfig & {
  readonly backend: "kubernetes";
  readonly kubernetes: KubernetesSection;
};

/** A complete, checked configuration: plain data, so that it can be sent to another process. */
export type Config = LocalConfig | EcsConfig | AcaConfig | KubernetesConfig;

/** Sources of the configured values. */
export interface ConfigSources extends Surroundings {
  readonly command: Command;
  /** The backend named on the command line, for the command `backend`. */
  readonly backend?: BackendName;
  /** The YAML file. */
  readonly file?: string;
  /** Values of flags by the setting's name (`ecs.cluster`): text, a list of texts, or a boolean for a switch. */
  readonly flags?: Readonly<Record<string, unknown>>;
}

/** A configuration and the warnings about it. */
export interface LoadedConfig {
  readonly config: Config;
  /** Unknown environment variables with our prefix. No error, as the environment belongs to others too. */
  readonly warnings: readonly string[];
}

/** Linux's limit for the path of a unix socket. */
const maxSocketPathBytes = 107;

/**
 * Reads and checks the configuration.
 *
 * @throws SockerlessError of kind `invalid` with every problem and its place
 */
export function loadConfig(sources: ConfigSources): LoadedConfig {
  const problems = new Problems();
  const given = mergeSources(sources, problems);
  const top = problems.parse(topSchema, given.top, undefined);
  const backend = sources.command === "frontend" ? "local" : (sources.backend ?? top?.backend ?? "local");
  const builder = problems.parse(builderSchema, given.builder, "builder");
  const image = problems.parse(imageSchema, given.image, "image");
  const pool = problems.parse(poolSchema, given.pool, "pool");
  const ecs = problems.parse(backend === "ecs" ? ecsSchema : v.partial(ecsSchema), given.ecs, "ecs");
  const aca = problems.parse(backend === "aca" ? acaSchema : v.partial(acaSchema), given.aca, "aca");
  const kubernetes = problems.parse(
    backend === "kubernetes" ? kubernetesSchema : v.partial(kubernetesSchema),
    given.kubernetes,
    "kubernetes",
  );
  problems.throwIfAny();

  const defaults = defaultPaths(backend, sources);
  const common = {
    ...resolveCommon(top as v.InferOutput<typeof topSchema>, sources.command, defaults),
    builder: camelCased(builder as v.InferOutput<typeof builderSchema>) as BuilderSection,
    image: camelCased(image as v.InferOutput<typeof imageSchema>) as ImageSection,
    pool: camelCased(pool as v.InferOutput<typeof poolSchema>) as PoolSection,
  };
  if (sources.command === "serve" || sources.command === "backend") {
    checkPool(common.pool, backend);
  }
  checkAddresses(common, sources.command);
  const warnings = strangeVariables(sources.environment);
  if (backend === "ecs") {
    const section = ecs as v.InferOutput<typeof ecsSchema>;
    return { config: { ...common, backend, ecs: cloudSection(section, defaults) as EcsSection }, warnings };
  }
  if (backend === "aca") {
    const section = aca as v.InferOutput<typeof acaSchema>;
    return { config: { ...common, backend, aca: cloudSection(section, defaults) as AcaSection }, warnings };
  }
  if (backend === "kubernetes") {
    const section = kubernetes as v.InferOutput<typeof kubernetesSchema>;
    const kubernetesSection = cloudSection(section, defaults) as KubernetesSection;
    return { config: { ...common, backend, kubernetes: kubernetesSection }, warnings };
  }
  return { config: { ...common, backend }, warnings };
}

/** A state directory and the warnings about its configuration. */
export interface LoadedStateDir extends Pick<LoadedConfig, "warnings"> {
  /** Absolute. */
  readonly stateDir: string;
}

/**
 * Reads only the state directory, for a command that needs nothing else: required settings of a cloud may be missing.
 *
 * @throws SockerlessError of kind `invalid` with every problem and its place
 */
export function loadStateDir(sources: ConfigSources): LoadedStateDir {
  const top = loadTop(sources);
  return {
    stateDir: top.state_dir ?? defaultPaths(top.backend ?? "local", sources).stateDir,
    warnings: strangeVariables(sources.environment),
  };
}

/** The address of metrics and the warnings about its configuration. */
export type LoadedMetricsAddr = Pick<CommonConfig, "metricsAddr"> & Pick<LoadedConfig, "warnings">;

/**
 * Reads only the address of metrics, as {@link loadStateDir} the directory.
 *
 * @throws SockerlessError of kind `invalid` with every problem and its place
 */
export function loadMetricsAddr(sources: ConfigSources): LoadedMetricsAddr {
  return {
    metricsAddr: loadTop(sources).metrics_addr,
    warnings: strangeVariables(sources.environment),
  };
}

/** The top of a configuration, whose sections need not be complete. */
function loadTop(sources: ConfigSources): v.InferOutput<typeof topSchema> {
  const problems = new Problems();
  const given = mergeSources(sources, problems);
  const top = problems.parse(topSchema, given.top, undefined);
  problems.throwIfAny();
  return top as v.InferOutput<typeof topSchema>;
}

type GivenValues = Readonly<Record<"top" | SectionName, Record<string, unknown>>>;

/** Later sources overwrite earlier ones, key by key. */
function mergeSources(sources: ConfigSources, problems: Problems): GivenValues {
  const given: GivenValues = { top: {}, builder: {}, image: {}, pool: {}, ecs: {}, aca: {}, kubernetes: {} };
  const put = (setting: Setting, value: unknown, origin: string): void => {
    given[setting.section ?? "top"][setting.key] = value;
    problems.origins.set(setting.name, origin);
  };
  for (const [setting, value] of fileValues(sources.file, problems)) {
    put(setting, value, `in ${sources.file}`);
  }
  for (const setting of settings) {
    const value = sources.environment[setting.variable];
    if (value !== undefined && value !== "") {
      put(setting, value, `from ${setting.variable}`);
    }
  }
  for (const setting of settings) {
    const value = sources.flags?.[setting.name];
    if (value !== undefined) {
      put(setting, value, `from --${setting.flag}`);
    }
  }
  return given;
}

function fileValues(file: string | undefined, problems: Problems): [Setting, unknown][] {
  if (file === undefined) {
    return [];
  }
  const content = readYaml(file);
  const found: [Setting, unknown][] = [];
  const collect = (values: Record<string, unknown>, section: Setting["section"]): void => {
    const known = new Map(
      settings.filter((setting) => setting.section === section).map((setting) => [setting.key, setting]),
    );
    for (const [key, value] of Object.entries(values)) {
      const setting = known.get(key);
      if (setting !== undefined) {
        // An empty key (`subnets:`) counts as left out.
        if (value !== null) {
          found.push([setting, value]);
        }
      } else if (section === undefined && isSectionName(key)) {
        if (isMap(value)) {
          collect(value, key);
        } else if (value !== null) {
          problems.add(`${key} must be a section with keys (in ${file})`);
        }
      } else {
        const sections = section === undefined ? sectionNames : [];
        problems.addUnknown(key, section, [...known.keys(), ...sections], file);
      }
    }
  };
  collect(content, undefined);
  return found;
}

function readYaml(file: string): Record<string, unknown> {
  let source: string;
  try {
    source = readFileSync(file, "utf8");
  } catch (error) {
    throw fromFileError(error, `configuration file ${file}: ${messageOf(error)}`);
  }
  let content: unknown;
  try {
    content = parseYaml(source);
  } catch (error) {
    throw invalid(`configuration file ${file}: ${messageOf(error)}`, error);
  }
  if (content === null || content === undefined) {
    return {};
  }
  if (!isMap(content)) {
    throw invalid(`configuration file ${file}: must be a mapping of keys to values`);
  }
  return content;
}

function isSectionName(key: string): key is SectionName {
  return (sectionNames as readonly string[]).includes(key);
}

function resolveCommon(
  top: v.InferOutput<typeof topSchema>,
  command: Command,
  defaults: DefaultPaths,
): Omit<CommonConfig, "builder" | "image" | "pool"> {
  const stateDir = top.state_dir ?? defaults.stateDir;
  const runDir =
    top.run_dir ?? (stateDir === defaults.stateDir ? defaults.runDir : runDirOf(stateDir, defaults.runDir));
  const ownRunDir = runDir !== defaults.runDir;
  const listen = top.listen ?? `unix://${ownRunDir ? `${runDir}/backend.sock` : defaults.backendSocket}`;
  const { tlscacert: ca, tlscert: cert, tlskey: key } = top;
  return {
    hosts: top.hosts ?? [`unix://${defaults.frontendSocket}`],
    listen,
    backendAddress: top.backend_address ?? listen.replace(/^tcp:/, "https:"),
    publish: top.publish ?? command === "serve",
    handOver: top.hand_over,
    stateDir,
    runDir,
    logLevel: top.log_level,
    logFormat: top.log_format,
    logFile: top.log_file ?? join(stateDir, "sockerless.log"),
    metricsAddr: top.metrics_addr,
    metricsContainers: top.metrics_containers,
    tls: ca !== undefined && cert !== undefined && key !== undefined ? { ca, cert, key } : undefined,
    runtime: top.runtime,
    blockVolumeSize: top.block_volume_size,
    insecureRegistries: top.insecure_registries,
  };
}

/** Backends that prepare tasks. */
const preparing: readonly BackendName[] = ["ecs", "aca", "kubernetes"];

/** @throws invalid: tasks are not prepared on the backend, or nothing limits what they cost */
function checkPool({ mode, maxIdleHoursPerDay, maxCostPerDay }: PoolSection, backend: BackendName): void {
  if (mode !== "off" && !preparing.includes(backend)) {
    throw invalid(
      `configuration: pool.mode: tasks are prepared on the backends ${preparing.join(" and ")}, and nowhere else`,
    );
  }
  if (mode === "learned" && maxIdleHoursPerDay === undefined && maxCostPerDay === undefined) {
    throw invalid(
      "configuration: pool.mode: learned needs pool.max_idle_hours_per_day or pool.max_cost_per_day",
    );
  }
}

function checkAddresses(common: CommonConfig, command: Command): void {
  const used = [
    ...(command === "backend" ? [] : common.hosts),
    ...(command === "frontend" ? [common.backendAddress] : [common.listen]),
    ...(common.metricsAddr === undefined ? [] : [common.metricsAddr]),
  ];
  for (const address of used) {
    if (address.startsWith("unix://")) {
      if (Buffer.byteLength(address.slice("unix://".length)) > maxSocketPathBytes) {
        throw invalid(`${address}: the path of a socket has at most ${maxSocketPathBytes} bytes`);
      }
    } else if (common.tls === undefined && !(address === common.metricsAddr && isLoopback(address))) {
      throw invalid(`${address}: TCP demands mutual TLS: set tlscacert, tlscert and tlskey`);
    }
  }
}

function cloudSection(
  section: Readonly<Record<string, unknown>> & { readonly agent_ca?: string | undefined },
  defaults: DefaultPaths,
): Record<string, unknown> {
  return { ...camelCased(section), agentCa: section.agent_ca ?? defaults.agentCa };
}

function camelCased(section: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(section).map(([key, value]) => [camelCase(key), value]));
}

/** The name that a configuration's key has in the code: `state_dir` as `stateDir`. */
export function camelCase(key: string): string {
  return key.replaceAll(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

function strangeVariables(environment: Surroundings["environment"]): string[] {
  const known = new Set(settings.map((setting) => setting.variable));
  const warnings: string[] = [];
  for (const name of Object.keys(environment)) {
    if (name.startsWith("SOCKERLESS_") && !known.has(name)) {
      const meant = nearestName(
        name.slice("SOCKERLESS_".length),
        [...known].map((each) => each.slice(11)),
      );
      if (meant !== undefined) {
        warnings.push(`${name} is not a setting: did you mean SOCKERLESS_${meant}?`);
      }
    }
  }
  return warnings;
}

/** Collects the errors of a configuration, so that the user sees all of them at once. */
class Problems {
  /** Origin of each setting's value, by setting name. */
  readonly origins = new Map<string, string>();
  readonly #found: string[] = [];

  add(problem: string): void {
    this.#found.push(problem);
  }

  addUnknown(key: string, section: string | undefined, known: readonly string[], file: string): void {
    const prefix = section === undefined ? "" : `${section}.`;
    const meant = nearestName(key, known);
    const hint = meant === undefined ? "" : `: did you mean ${prefix}${meant}?`;
    this.add(`unknown key ${prefix}${key} (in ${file})${hint}`);
  }

  parse<Output>(
    schema: Schema<Output>,
    values: Record<string, unknown>,
    section: Setting["section"],
  ): Output | undefined {
    const result = v.safeParse(schema, values);
    if (result.success) {
      return result.output;
    }
    const reported = new Set<string>();
    for (const issue of result.issues) {
      const key = String(issue.path?.[0].key);
      const setting = settings.find((each) => each.section === section && each.key === key);
      if (setting !== undefined && !reported.has(key)) {
        reported.add(key);
        this.add(this.#describe(setting, issue.message));
      }
    }
    return undefined;
  }

  throwIfAny(): void {
    if (this.#found.length === 1) {
      throw invalid(`configuration: ${this.#found[0]}`);
    }
    if (this.#found.length > 1) {
      throw invalid(`configuration:\n${this.#found.map((problem) => `  ${problem}`).join("\n")}`);
    }
  }

  #describe(setting: Setting, message: string): string {
    const origin = this.origins.get(setting.name);
    if (origin === undefined) {
      return `${setting.name} is required (--${setting.flag}, ${setting.variable} or ${setting.name} in the file)`;
    }
    return `${setting.name} ${message.replaceAll("`", "")} (${origin})`;
  }
}
