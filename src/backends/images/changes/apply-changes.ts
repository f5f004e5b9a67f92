/**
 * `--change` of import and commit: applies Dockerfile instructions to a configuration. Error texts are moby's and
 * BuildKit's.
 */
import path from "node:path/posix";

import { clone, create } from "@bufbuild/protobuf";

import { setOwnValue } from "../../../common/own-value.ts";
import { invalid } from "../../../common/errors.ts";
import {
  type ContainerConfig,
  ContainerConfigSchema,
  type StringList,
  StringListSchema,
} from "../../../gen/sockerless/backend/v1/config_pb.ts";
import { parseSignal } from "../../model/signals.ts";
import { parseCommandArguments, parseListArguments, parsePairs } from "./arguments.ts";
import { parseHealthcheck } from "./health.ts";
import { type Instruction, parseInstructions } from "./parse-lines.ts";
import { parseExposedPorts } from "./ports.ts";
import { expandWord, expandWords, type Variables } from "./words.ts";

/** Size limit for the text of a request's changes, in bytes. */
const maxChangesLength = 1024 ** 2;

/**
 * Work limit for all instructions of a request: configuration entries scanned, and characters of expanded variables.
 * Enough for a thousand ENV, but not for doubling a variable in each of thirty.
 */
const maxCost = 1_000_000;

/** The configuration being changed, and the progress of that. */
interface Target {
  readonly config: ContainerConfig;
  /** True after a CMD, which a later ENTRYPOINT then keeps. */
  commandSet: boolean;
  cost: number;
}

type Apply = (target: Target, instruction: Instruction) => void;

const instructions: Readonly<Record<string, Apply>> = {
  cmd: (target, { rest }) => {
    target.config.cmd = commandOf(target.config, rest);
    target.commandSet = target.config.cmd.values.length > 0;
  },
  entrypoint: (target, { rest }) => {
    const entrypoint = commandOf(target.config, rest);
    delete target.config.entrypoint;
    if (entrypoint.values.length > 0) {
      target.config.entrypoint = entrypoint;
    }
    if (!target.commandSet) {
      delete target.config.cmd;
    }
  },
  env: (target, { rest }) => {
    const { config } = target;
    // All values of an instruction see the environment before it.
    const variables = environmentOf(target);
    for (const [name, value] of parsePairs(rest, "ENV")) {
      spend(target, config.env.length);
      setVariable(config, expand(target, name, variables), expand(target, value, variables));
    }
  },
  expose: (target, { rest }) => {
    const { config } = target;
    const variables = environmentOf(target);
    const written = atLeastOne("EXPOSE", rest.split(/\s+/).filter(Boolean));
    const ports: string[] = [];
    for (const word of written.flatMap((each) => expandWords(each, variables))) {
      const range = parseExposedPorts(word);
      spend(target, range.length);
      ports.push(...range);
    }
    spend(target, config.exposedPorts.length);
    config.exposedPorts = [...new Set([...config.exposedPorts, ...ports])];
  },
  healthcheck: ({ config }, instruction) => {
    config.healthcheck = parseHealthcheck(instruction);
  },
  label: (target, { rest }) => {
    const { config } = target;
    const variables = environmentOf(target);
    for (const [name, value] of parsePairs(rest, "LABEL")) {
      setOwnValue(config.labels, expand(target, name, variables), expand(target, value, variables));
    }
  },
  onbuild: ({ config }, { rest }) => {
    const trigger = (/^\S+/.exec(rest)?.[0] ?? "").toUpperCase();
    if (trigger === "") {
      throw invalid("ONBUILD requires at least one argument");
    }
    if (trigger === "ONBUILD") {
      throw invalid("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");
    }
    if (trigger === "MAINTAINER" || trigger === "FROM") {
      throw invalid(`${trigger} isn't allowed as an ONBUILD trigger`);
    }
    config.onBuild = listOf([...(config.onBuild?.values ?? []), rest]);
  },
  stopsignal: (target, { rest }) => {
    const { config } = target;
    const signal = expand(target, exactlyOne("STOPSIGNAL", rest), environmentOf(target));
    parseSignal(signal);
    config.stopSignal = signal;
  },
  user: (target, { rest }) => {
    const { config } = target;
    config.user = expand(target, exactlyOne("USER", rest), environmentOf(target));
  },
  volume: (target, { rest }) => {
    const { config } = target;
    const variables = environmentOf(target);
    const paths = atLeastOne("VOLUME", parseListArguments(rest)).map((word) =>
      expand(target, word, variables).trim(),
    );
    spend(target, config.volumes.length);
    if (paths.includes("")) {
      throw invalid("VOLUME specified can not be an empty string");
    }
    config.volumes = [...new Set([...config.volumes, ...paths])];
  },
  workdir: (target, { rest }) => {
    const { config } = target;
    const requested = expand(target, exactlyOne("WORKDIR", rest), environmentOf(target));
    if (requested === "") {
      throw invalid("cannot normalize nothing");
    }
    spend(target, config.workingDir.length);
    config.workingDir = path.resolve("/", config.workingDir, requested);
  },
};

/**
 * Returns a configuration with Dockerfile instructions applied; the original is unchanged.
 *
 * @throws SockerlessError of kind `invalid`
 */
export function applyChanges(config: ContainerConfig, changes: readonly string[]): ContainerConfig {
  const source = changes.join("\n");
  if (source.length > maxChangesLength) {
    throw invalid("changes are too long");
  }
  const parsed = parseInstructions(source);
  for (const { name } of parsed) {
    if (!Object.hasOwn(instructions, name.toLowerCase())) {
      throw invalid(`${name} is not a valid change command`);
    }
  }
  const target: Target = { config: clone(ContainerConfigSchema, config), commandSet: false, cost: 0 };
  for (const instruction of parsed) {
    const name = instruction.name.toLowerCase();
    const [flag] = instruction.flags;
    if (flag !== undefined && name !== "healthcheck") {
      throw invalid(`unknown flag: ${flag.replace(/=.*/, "").slice(2)}`);
    }
    // Each instruction scans the environment and the lists that it adds to.
    spend(target, target.config.env.length + (target.config.onBuild?.values.length ?? 0));
    instructions[name]?.(target, instruction);
  }
  return target.config;
}

function expand(target: Target, word: string, variables: Variables): string {
  const text = expandWord(word, variables);
  spend(target, text.length);
  return text;
}

function spend(target: Target, cost: number): void {
  target.cost += cost;
  if (target.cost > maxCost) {
    throw invalid("changes are too many, or the values of variables are too long");
  }
}

/** The exec form unchanged; the shell form by means of the image's shell. */
function commandOf(config: ContainerConfig, rest: string): StringList {
  const command = parseCommandArguments(rest);
  return command.form === "exec"
    ? listOf(command.values)
    : listOf([...(config.shell?.values ?? ["/bin/sh", "-c"]), command.text]);
}

function listOf(values: readonly string[]): StringList {
  return create(StringListSchema, { values: [...values] });
}

/** The environment as variables; each lookup is charged the value's length. */
function environmentOf(target: Target): Variables {
  const environment = new Map(
    target.config.env.map((entry) => {
      const equals = entry.indexOf("=");
      return equals < 0 ? [entry, ""] : [entry.slice(0, equals), entry.slice(equals + 1)];
    }),
  );
  return (name) => {
    const value = environment.get(name);
    spend(target, value?.length ?? 0);
    return value;
  };
}

function setVariable(config: ContainerConfig, name: string, value: string): void {
  const prefix = `${name}=`;
  const entry = prefix + value;
  const at = config.env.findIndex((each) => each.startsWith(prefix));
  if (at < 0) {
    config.env.push(entry);
  } else {
    config.env[at] = entry;
  }
}

function exactlyOne(instruction: string, rest: string): string {
  if (rest === "") {
    throw invalid(`${instruction} requires exactly one argument`);
  }
  return rest;
}

function atLeastOne(instruction: string, values: readonly string[]): readonly string[] {
  if (values.length === 0) {
    throw invalid(`${instruction} requires at least one argument`);
  }
  return values;
}
