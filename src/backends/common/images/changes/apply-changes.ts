/**
 * `--change` of import and commit: Dockerfile instructions applied to a configuration. Texts of refusals are moby's and
 * BuildKit's.
 */
import path from "node:path/posix";

import { clone, create } from "@bufbuild/protobuf";

import { invalid } from "../../../../common/errors.ts";
import {
  type ContainerConfig,
  ContainerConfigSchema,
  type StringList,
  StringListSchema,
} from "../../../../gen/sockerless/backend/v1/config_pb.ts";
import { parseSignal } from "../../engine/signals.ts";
import { parseCommandArguments, parseListArguments, parsePairs } from "./arguments.ts";
import { parseHealthcheck } from "./health.ts";
import { type Instruction, parseInstructions } from "./parse-lines.ts";
import { parseExposedPorts } from "./ports.ts";
import { expandWord, expandWords, type Variables } from "./words.ts";

/** The most text that a request's changes may have, in bytes. */
const maxChangesLength = 1024 ** 2;

/** What an instruction changes. */
interface Target {
  readonly config: ContainerConfig;
  /** A CMD came before: ENTRYPOINT then leaves it. */
  commandSet: boolean;
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
  env: ({ config }, { rest }) => {
    // All values of one instruction see the environment as it was before it.
    const variables = environmentOf(config);
    for (const [name, value] of parsePairs(rest, "ENV")) {
      setVariable(config, expandWord(name, variables), expandWord(value, variables));
    }
  },
  expose: ({ config }, { rest }) => {
    const variables = environmentOf(config);
    const written = atLeastOne("EXPOSE", rest.split(/\s+/).filter(Boolean));
    const ports = written.flatMap((word) => expandWords(word, variables)).flatMap(parseExposedPorts);
    config.exposedPorts = [...new Set([...config.exposedPorts, ...ports])];
  },
  healthcheck: ({ config }, instruction) => {
    config.healthcheck = parseHealthcheck(instruction);
  },
  label: ({ config }, { rest }) => {
    const variables = environmentOf(config);
    for (const [name, value] of parsePairs(rest, "LABEL")) {
      config.labels[expandWord(name, variables)] = expandWord(value, variables);
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
  stopsignal: ({ config }, { rest }) => {
    const signal = expandWord(exactlyOne("STOPSIGNAL", rest), environmentOf(config));
    parseSignal(signal);
    config.stopSignal = signal;
  },
  user: ({ config }, { rest }) => {
    config.user = expandWord(exactlyOne("USER", rest), environmentOf(config));
  },
  volume: ({ config }, { rest }) => {
    const variables = environmentOf(config);
    const paths = atLeastOne("VOLUME", parseListArguments(rest)).map((word) =>
      expandWord(word, variables).trim(),
    );
    if (paths.includes("")) {
      throw invalid("VOLUME specified can not be an empty string");
    }
    config.volumes = [...new Set([...config.volumes, ...paths])];
  },
  workdir: ({ config }, { rest }) => {
    const requested = expandWord(exactlyOne("WORKDIR", rest), environmentOf(config));
    if (requested === "") {
      throw invalid("cannot normalize nothing");
    }
    config.workingDir = path.resolve("/", config.workingDir, requested);
  },
};

/**
 * A configuration with Dockerfile instructions applied; the one handed in stays as it is.
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
  const target: Target = { config: clone(ContainerConfigSchema, config), commandSet: false };
  for (const instruction of parsed) {
    const name = instruction.name.toLowerCase();
    const [flag] = instruction.flags;
    if (flag !== undefined && name !== "healthcheck") {
      throw invalid(`unknown flag: ${flag.replace(/=.*/, "").slice(2)}`);
    }
    instructions[name]?.(target, instruction);
  }
  return target.config;
}

/** The exec form as it is; the shell form through the image's shell. */
function commandOf(config: ContainerConfig, rest: string): StringList {
  const command = parseCommandArguments(rest);
  return command.form === "exec"
    ? listOf(command.values)
    : listOf([...(config.shell?.values ?? ["/bin/sh", "-c"]), command.text]);
}

function listOf(values: readonly string[]): StringList {
  return create(StringListSchema, { values: [...values] });
}

function environmentOf(config: ContainerConfig): Variables {
  const environment = new Map(
    config.env.map((entry) => {
      const equals = entry.indexOf("=");
      return equals < 0 ? [entry, ""] : [entry.slice(0, equals), entry.slice(equals + 1)];
    }),
  );
  return (name) => environment.get(name);
}

function setVariable(config: ContainerConfig, name: string, value: string): void {
  const entry = `${name}=${value}`;
  const at = config.env.findIndex((each) => each.startsWith(`${name}=`));
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
