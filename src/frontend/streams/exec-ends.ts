/**
 * Ends of execs on their way to clients, which ask for the exit code right after the stream and take none for 0. The
 * backend's record has it. This frontend remembers only the ends that the backend does not know (yet, or any more): a
 * stream that was cut, or that has ended while the backend could not be told, or while the container was being removed.
 */
import { create } from "@bufbuild/protobuf";

import { isErrorKind } from "../../common/errors.ts";
import type { Supervision } from "../../common/held-sockets.ts";
import type { Logger } from "../../common/logger.ts";
import {
  type InspectExecResponse,
  InspectExecResponseSchema,
} from "../../gen/sockerless/backend/v1/exec_pb.ts";
import type { BackendClients } from "../backend/clients.ts";

/** Exit code of an exec whose stream was cut, so that nobody knows how it ends. */
const unknownExitCode = 255;

/** Exit code of an exec whose start failed without a code of its own, as dockerd has it. */
const failedStartCode = 126;

/** How long the client of a cut stream is kept waiting for the backend to learn of the end. */
const cutLimitMs = 5_000;

/** The number of ends to remember; the oldest are forgotten beyond it, as clients ask at once. */
const maxRemembered = 10_000;

/** The end of one exec that this frontend streams, settled before its client sees that the stream has ended. */
export interface ExecEnd {
  exited(exitCode: number): Promise<void>;
  /** The output was cut. */
  cut(): Promise<void>;
  /** Its stream could not be opened, and nobody has told an exit code. */
  unopened(): void;
}

/** The ends of all execs. */
export class ExecEnds {
  readonly #execs: BackendClients["execs"];
  readonly #supervision: Supervision | undefined;
  readonly #remembered = new Map<string, InspectExecResponse>();
  /** Cut streams of which the frontend after this one is told, as long as they are remembered. */
  readonly #cutNotes = new Map<string, Disposable>();

  /** @param supervision tells what a frontend before this one has cut off by its death */
  constructor(execs: BackendClients["execs"], supervision?: Supervision) {
    this.#execs = execs;
    this.#supervision = supervision;
    for (const id of supervision?.cutExecs ?? []) {
      this.#remember(create(InspectExecResponseSchema, { id, exitCode: unknownExitCode }));
    }
  }

  /**
   * The stream of an exec begins; disposing says that its client was given all that there is to tell. One that was cut
   * stays noted: that it was is known to this frontend alone.
   */
  streaming(execId: string): Disposable {
    const note = this.#supervision?.streamingExec(execId);
    return {
      [Symbol.dispose]: () => {
        if (note !== undefined && isCut(this.#remembered.get(execId))) {
          this.#forgetNote(execId);
          this.#cutNotes.set(execId, note);
        } else {
          note?.[Symbol.dispose]();
        }
      },
    };
  }

  /**
   * Settles the end of an exec, so that {@link inspect} tells it.
   *
   * @param exec as it was started
   */
  of(
    exec: InspectExecResponse,
    { logger, signal }: { readonly logger: Logger; readonly signal: AbortSignal },
  ): ExecEnd {
    const known = (within: AbortSignal): Promise<unknown> =>
      this.#execs.awaitExec({ execId: exec.id }, { signal: within });
    return {
      exited: async (exitCode) => {
        try {
          await known(signal);
        } catch (error) {
          logger.warn({ err: error, exec: exec.id }, "the end of an exec is not known to the backend");
          this.#remember({ ...exec, exitCode });
        }
      },
      cut: async () => {
        await known(AbortSignal.any([signal, AbortSignal.timeout(cutLimitMs)])).catch(() => undefined);
        this.#remember({ ...exec, exitCode: unknownExitCode });
      },
      unopened: () => this.#remember({ ...exec, exitCode: failedStartCode }),
    };
  }

  /** An exec with the exit code to tell. @throws what the backend throws */
  async inspect(execId: string, signal: AbortSignal): Promise<InspectExecResponse> {
    const remembered = this.#remembered.get(execId);
    try {
      const exec = await this.#execs.inspectExec({ execId }, { signal });
      const exitCode = isCut(remembered)
        ? unknownExitCode
        : ((exec.exitCode || remembered?.exitCode) ?? exec.exitCode);
      return exitCode === undefined ? exec : { ...exec, exitCode };
    } catch (error) {
      // The container was removed, and its exec's record with it, before the client could ask.
      if (remembered === undefined || !isErrorKind(error, "not-found")) {
        throw error;
      }
      return remembered;
    }
  }

  #remember(exec: InspectExecResponse): void {
    this.#remembered.delete(exec.id);
    this.#remembered.set(exec.id, exec);
    const [oldest] = this.#remembered.keys();
    if (this.#remembered.size > maxRemembered && oldest !== undefined) {
      this.#remembered.delete(oldest);
      this.#forgetNote(oldest);
    }
  }

  #forgetNote(execId: string): void {
    this.#cutNotes.get(execId)?.[Symbol.dispose]();
    this.#cutNotes.delete(execId);
  }
}

/** True of a cut stream: a process's own code, whatever it is, vouches for its whole output. */
function isCut(remembered: InspectExecResponse | undefined): boolean {
  return remembered?.exitCode === unknownExitCode;
}
