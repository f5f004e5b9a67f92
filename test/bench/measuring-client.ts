/** The client that is measured with: a program in Go, `test/bench/apiclient`, as Docker's own clients are. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

import { buildProgram } from "../support/programs.ts";

/** Body of a request that makes a container. */
export type ContainerConfig = Readonly<Record<string, unknown>>;

/** Work that the client does, and times. */
export type Work =
  | Call
  /** Makes a container, which it removes behind that. */
  | { readonly work: "create"; readonly create: ContainerConfig }
  /** Makes a container, runs it to its end and removes it. */
  | { readonly work: "run"; readonly create: ContainerConfig }
  /** Runs a container to its end, without its making and removal. */
  | { readonly work: "unattached run"; readonly create: ContainerConfig }
  /** The same as `run`, attached to a container that writes exactly so many bytes. */
  | { readonly work: "attached run"; readonly create: ContainerConfig; readonly bytes: number }
  /** Output of at least so many bytes, from a container's start to its end. */
  | { readonly work: "attached output"; readonly create: ContainerConfig; readonly bytes: number }
  /** Output of at least so many bytes, which a container that runs writes once it has read a line. */
  | { readonly work: "prompted output"; readonly create: ContainerConfig; readonly bytes: number }
  /** Attaches to a container that echoes, until the first byte has come back. */
  | { readonly work: "attach"; readonly container: string }
  | Execs
  /** Sends so many bytes to a command that reads them to their end. */
  | {
      readonly work: "exec stdin";
      readonly container: string;
      readonly cmd: readonly string[];
      readonly bytes: number;
    }
  /** One key through a terminal with a command that reads it: the 90th percentile of many. */
  | { readonly work: "echo"; readonly container: string; readonly cmd: readonly string[] }
  /** A line into a container that writes it into its log, and out of that: the 90th percentile of many. */
  | { readonly work: "log follow"; readonly create: ContainerConfig };

/** One request whose answer is read to its end. */
export interface Call {
  readonly work: "call";
  readonly method: "GET" | "POST" | "PUT";
  /** Behind the API's version. */
  readonly path: string;
  /** The least that must come back, in bytes. */
  readonly bytes?: number;
  /** JSON unless said; anything else goes on a connection of its own, in one piece. */
  readonly bodyType?: "application/x-tar";
  /** Its answer is the progress of some work, which tells at its end of what has failed. */
  readonly progress?: boolean;
}

/** Runs a command so many times at once, and each to a good end. */
export interface Execs {
  readonly work: "exec";
  readonly container: string;
  readonly cmd: readonly string[];
  readonly parallel: number;
  /** The least that each must write, in bytes. */
  readonly bytes?: number;
}

/** One process of it, for one daemon. It does one work at a time. */
export class MeasuringClient implements AsyncDisposable {
  readonly #process: ChildProcess;
  readonly #ended: Promise<unknown>;
  readonly #interrupted: AbortSignal;
  readonly #answers: AsyncIterator<string>;
  readonly #kill = (): void => void this.#process.kill("SIGKILL");

  private constructor(program: string, socketPath: string, interrupted: AbortSignal) {
    // In a session of its own: a terminal's signals come by way of this process.
    const child = spawn(program, [socketPath], { stdio: ["pipe", "pipe", "inherit"], detached: true });
    child.stdin.on("error", () => {}); // It has ended: so have its answers.
    this.#process = child;
    this.#ended = once(child, "close");
    this.#interrupted = interrupted;
    this.#answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    interrupted.addEventListener("abort", this.#kill);
  }

  /**
   * Compiles it where it is not current, and starts one.
   *
   * @param interrupted ends it once it is aborted, whatever it is doing
   */
  static async start(socketPath: string, interrupted: AbortSignal): Promise<MeasuringClient> {
    const program = await buildProgram("apiclient", { module: "test/bench", signal: interrupted });
    interrupted.throwIfAborted();
    return new MeasuringClient(program, socketPath, interrupted);
  }

  /**
   * Has some work done, and answers how long that took, in milliseconds.
   *
   * @param body of the request that a {@link Call} makes
   * @throws Error: the work failed, or less came back than must
   */
  async time(work: Work, body: string | Uint8Array = ""): Promise<number> {
    this.#interrupted.throwIfAborted();
    const { stdin } = this.#process;
    stdin?.write(`${JSON.stringify({ ...work, bodyBytes: Buffer.byteLength(body) })}\n`);
    stdin?.write(body);
    const { value: line, done } = await this.#answers.next();
    this.#interrupted.throwIfAborted();
    if (done === true) {
      throw new Error("the client that is measured with has ended");
    }
    const { value, error } = JSON.parse(line) as { readonly value?: number; readonly error?: string };
    if (value === undefined) {
      throw new Error(error);
    }
    return value;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#interrupted.removeEventListener("abort", this.#kill);
    this.#process.stdin?.end();
    await this.#ended;
  }
}
