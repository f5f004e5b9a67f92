/** Builds by `POST /build`, as clients without BuildKit ask for them. */
import { join } from "node:path";

import { buildLimitMs, type CommandOptions, runCommand } from "./command.ts";
import { checkout } from "./daemon.ts";
import { callApi } from "./call-api.ts";
import { type TarEntry, tarOf } from "./tar.ts";

/** Compiles the builder where it is not current, so that no build of a test has to wait for it. */
export async function compileBuilder({ signal }: Pick<CommandOptions, "signal"> = {}): Promise<void> {
  const script = join(checkout, "scripts/prepare/build-builder.mjs");
  const { code, errorText } = await runCommand(process.execPath, [script], {
    timeout: buildLimitMs,
    ...(signal !== undefined && { signal }),
  });
  if (code !== 0) {
    throw new Error(`the builder does not compile:\n${errorText}`);
  }
}

/** The answer of a build: what it printed and how it ended. */
export interface BuildAnswer {
  readonly status: number;
  /** All that it streamed, and the error if there was one. */
  readonly text: string;
  readonly error: { readonly message: string; readonly code?: number } | undefined;
  /** The image's ID. */
  readonly id: string | undefined;
}

interface BuildMessage {
  readonly stream?: string;
  readonly aux?: { readonly ID?: string };
  readonly errorDetail?: { readonly message: string; readonly code?: number };
}

/** Sends a Dockerfile with other files as a context, and reads the answer to its end. */
export async function build(
  socket: string,
  dockerfile: string,
  options: {
    readonly files?: readonly TarEntry[];
    readonly query?: Readonly<Record<string, string>>;
    readonly headers?: Readonly<Record<string, string>>;
  } = {},
): Promise<BuildAnswer> {
  const body = await tarOf([...(options.files ?? []), { name: "Dockerfile", content: dockerfile }]);
  const query = new URLSearchParams(options.query);
  const headers = { "Content-Type": "application/x-tar", ...options.headers };
  const { status, text } = await callApi(socket, "POST", `/v1.48/build?${query}`, {
    body,
    headers,
  });
  if (status !== 200) {
    const { message } = JSON.parse(text) as { readonly message: string };
    return { status, text: message, error: { message }, id: undefined };
  }
  const messages = text
    .split("\r\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as BuildMessage);
  return {
    status,
    text: messages.map(({ stream }) => stream ?? "").join(""),
    error: messages.find(({ errorDetail }) => errorDetail !== undefined)?.errorDetail,
    id: messages.find(({ aux }) => aux?.ID !== undefined)?.aux?.ID,
  };
}

/** The same, of a build that has to succeed: its image's ID. */
export async function built(...[socket, dockerfile, options]: Parameters<typeof build>): Promise<string> {
  const { id, text, error } = await build(socket, dockerfile, options);
  if (id === undefined) {
    throw new Error(`the build failed: ${error?.message}\n${text}`);
  }
  return id;
}
