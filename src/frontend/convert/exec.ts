/** Execs: between Docker's JSON and the messages of backend and agent. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";

import { invalid } from "../../common/errors.ts";
import type { HandOverSchema, OpenExecSchema } from "../../gen/sockerless/agent/v1/agent_pb.ts";
import {
  type ExecConfig,
  ExecConfigSchema,
  type InspectExecResponse,
} from "../../gen/sockerless/backend/v1/exec_pb.ts";
import type { ApiVersion } from "../api-version.ts";
import { parseDetachKeys } from "../streams/detach-keys.ts";
import { JsonFields } from "./json-fields.ts";
import { unlessEmpty } from "./json-values.ts";

/** The first API version whose execs have a console size. */
const consoleSizeSince = "1.42";

/**
 * Reads the body of an exec's creation.
 *
 * @throws SockerlessError of kind `invalid`
 */
export function execConfigFromJson(body: unknown, version: ApiVersion): ExecConfig {
  const fields = new JsonFields(body ?? {}, "ExecOptions");
  const cmd = fields.strings("Cmd");
  if (cmd.length === 0) {
    throw invalid("No exec command specified");
  }
  const detachKeys = fields.string("DetachKeys");
  if (detachKeys !== "" && parseDetachKeys(detachKeys) === undefined) {
    throw invalid(`Invalid escape keys (${detachKeys}) provided`);
  }
  return create(ExecConfigSchema, {
    attachStdin: fields.boolean("AttachStdin"),
    attachStdout: fields.boolean("AttachStdout"),
    attachStderr: fields.boolean("AttachStderr"),
    tty: fields.boolean("Tty"),
    cmd,
    env: fields.strings("Env"),
    user: fields.string("User"),
    workingDir: fields.string("WorkingDir"),
    privileged: fields.boolean("Privileged"),
    detachKeys,
    ...consoleSize(fields, version),
  });
}

/** Settings of an exec's start. */
export interface ExecStart {
  readonly detach: boolean;
  /** True if the client expects a terminal's raw bytes instead of frames. */
  readonly tty: boolean;
  readonly consoleHeight: number;
  readonly consoleWidth: number;
}

/** Reads the body of an exec's start. */
export function execStartFromJson(body: unknown, version: ApiVersion): ExecStart {
  const fields = new JsonFields(body ?? {}, "ExecStartOptions");
  const tty = fields.boolean("Tty");
  const size = consoleSize(fields, version);
  return {
    detach: fields.boolean("Detach"),
    tty,
    consoleHeight: tty ? size.consoleHeight : 0,
    consoleWidth: tty ? size.consoleWidth : 0,
  };
}

/** The agent's request to run an exec. */
export function openExecOf(
  execId: string,
  config: ExecConfig,
  additionalGroups: string[],
  {
    detach,
    handOver,
  }: { readonly detach: boolean; readonly handOver?: MessageInitShape<typeof HandOverSchema> },
): MessageInitShape<typeof OpenExecSchema> {
  const { consoleHeight: height, consoleWidth: width } = config;
  return {
    execId,
    process: {
      args: config.cmd,
      env: config.env,
      workingDir: config.workingDir,
      user: config.user,
      additionalGroups,
      tty: config.tty,
      privileged: config.privileged,
      ...(height > 0 && width > 0 ? { consoleSize: { height, width } } : {}),
    },
    attachStdin: config.attachStdin,
    attachStdout: config.attachStdout,
    attachStderr: config.attachStderr,
    detach,
    ...(handOver !== undefined && { handOver }),
  };
}

/** `GET /exec/{id}/json`. */
export function execToJson(exec: InspectExecResponse): Record<string, unknown> {
  const { config } = exec;
  const [entrypoint = "", ...args] = config?.cmd ?? [];
  return {
    ID: exec.id,
    Running: exec.running,
    ExitCode: exec.exitCode ?? null,
    ProcessConfig: {
      tty: config?.tty ?? false,
      entrypoint,
      arguments: args,
      privileged: config?.privileged ?? false,
      user: unlessEmpty(config?.user ?? ""),
    },
    OpenStdin: exec.openStdin,
    OpenStderr: exec.openStderr,
    OpenStdout: exec.openStdout,
    CanRemove: exec.canRemove,
    ContainerID: exec.containerId,
    // Go writes bytes as base64.
    DetachKeys: Buffer.from(detachKeyBytes(config?.detachKeys ?? "")).toString("base64"),
    Pid: exec.pid,
  };
}

function detachKeyBytes(text: string): Uint8Array {
  return text === "" ? new Uint8Array() : (parseDetachKeys(text) ?? new Uint8Array());
}

function consoleSize(
  fields: JsonFields,
  version: ApiVersion,
): { readonly consoleHeight: number; readonly consoleWidth: number } {
  const [consoleHeight = 0, consoleWidth = 0] = version.atLeast(consoleSizeSince)
    ? fields.uint32s("ConsoleSize", 2)
    : [];
  return { consoleHeight, consoleWidth };
}
