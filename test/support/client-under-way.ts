/** Docker CLIs whose streams are under way while something happens to the network, and what they are to have read. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import type { Readable } from "node:stream";

import type { Daemon } from "./daemon.ts";

/** A client under way. */
export interface ClientUnderWay {
  /** It may be paused. */
  readonly output: Readable;
  /** Its output so far. */
  text(): Buffer;
  errors(): string;
  /** Its exit code. */
  readonly closed: Promise<number>;
}

/** Runs `docker ARGS…` without a standard input. */
export function beginClient(daemon: Daemon, ...args: string[]): ClientUnderWay {
  const client = spawn("docker", args, { env: daemon.clientEnv, stdio: ["ignore", "pipe", "pipe"] });
  const chunks: Buffer[] = [];
  client.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
  let errors = "";
  client.stderr.on("data", (chunk: Buffer) => {
    errors += String(chunk);
  });
  const closed = once(client, "close").then(([code]) => Number(code ?? Number.NaN));
  return { output: client.stdout, text: () => Buffer.concat(chunks), errors: () => errors, closed };
}

/** A script that writes numbers from 0 on, a hundred lines a second. */
export function count(lines: number): string {
  return `i=0; while [ $i -lt ${lines} ]; do echo $i; i=$((i+1)); usleep 10000; done`;
}

/** The output of {@link count}. */
export function counted(lines: number): string {
  return Array.from({ length: lines }, (_, n) => `${n}\n`).join("");
}
