/**
 * Exit codes of execs that clients ask for right after the stream; they take a missing one for 0. The backend's record
 * has the code. This frontend remembers only what the backend does not know yet, or no longer knows: streams that were
 * cut, or that ended while the backend was unreachable or the container was being removed.
 */
import { create, toBinary } from "@bufbuild/protobuf";

import { isErrorKind } from "../../common/errors.ts";
import { remember } from "../../common/forget-oldest.ts";
import type { Supervision } from "../../common/held-sockets.ts";
import type { Logger } from "../../common/logger.ts";
import {
  type InspectExecResponse,
  InspectExecResponseSchema,
} from "../../gen/sockerless/backend/v1/exec_pb.ts";
import type { BackendClients } from "../backend/clients.ts";

/** Exit code of an exec whose stream was cut, so that its outcome is unknown. */
const unknownExitCode = 255;

/** Exit code of an exec whose start failed without a code of its own, as in dockerd. */
const failedStartCode = 126;

/** Milliseconds for which the client of a cut stream waits until the backend learns of the end. */
const cutLimitMs = 5_000;

/** Maximum number of remembered ends of all clients; the oldest are dropped first, as clients ask immediately. */
const maxRemembered = 10_000;

/** Cut streams that stay registered: half of the slots for streams, since a hostile agent cuts as many as it likes. */
const maxCutNotes = 5_000;

/** Bytes of an exec beyond which only its end is remembered: a command may be megabytes long. */
const maxBytes = 4_096;
/** Bytes that a word of a command counts besides its own. */
const wordBytes = 128;

/** The end of one exec that this frontend streams, recorded before its client sees the end of the stream. */
export interface ExecEnd {
  exited(exitCode: number): Promise<void>;
  /** The output was cut. */
  cut(): Promise<void>;
  /** Its stream could not be opened, and there is no exit code. */
  unopened(): void;
}

/** The ends of all execs. */
export class ExecEnds {
  readonly #execs: BackendClients["execs"];
  readonly #supervision: Supervision | undefined;
  readonly #most: number;
  readonly #remembered = new Map<string, InspectExecResponse>();
  /** Cut streams that are reported to the next frontend, as long as they are remembered. */
  readonly #cutNotes = new Map<string, Disposable>();

  /**
   * @param supervision reports streams that the death of an earlier frontend has cut
   * @param most maximum number of remembered ends
   */
  constructor(execs: BackendClients["execs"], supervision?: Supervision, most = maxRemembered) {
    this.#execs = execs;
    this.#supervision = supervision;
    this.#most = most;
    for (const id of supervision?.cutExecs ?? []) {
      this.#remember(create(InspectExecResponseSchema, { id, exitCode: unknownExitCode }));
    }
  }

  /**
   * Registers the stream of an exec; disposing marks that its client got everything. A cut stream stays registered, as
   * only this frontend knows of the cut.
   */
  streaming(execId: string): Disposable {
    const note = this.#supervision?.streamingExec(execId);
    return {
      [Symbol.dispose]: () => {
        if (note !== undefined && isCut(this.#remembered.get(execId))) {
          this.#forgetNote(execId);
          this.#cutNotes.set(execId, note);
          const [oldest = ""] = this.#cutNotes.keys();
          if (this.#cutNotes.size > maxCutNotes) {
            this.#forgetNote(oldest);
          }
        } else {
          note?.[Symbol.dispose]();
        }
      },
    };
  }

  /**
   * Records the end of an exec for {@link inspect}.
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

  /** An exec with the exit code to report. @throws the backend's errors */
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
    const { config, ...end } = exec;
    const words = (config?.cmd.length ?? 0) + (config?.env.length ?? 0);
    const isLong = toBinary(InspectExecResponseSchema, exec).length + wordBytes * words > maxBytes;
    const oldest = remember(this.#remembered, exec.id, isLong ? end : exec, this.#most);
    if (oldest !== undefined) {
      this.#forgetNote(oldest);
    }
  }

  #forgetNote(execId: string): void {
    this.#cutNotes.get(execId)?.[Symbol.dispose]();
    this.#cutNotes.delete(execId);
  }
}

/** True for a cut stream: reporting a process's own code would promise its whole output. */
function isCut(remembered: InspectExecResponse | undefined): boolean {
  return remembered?.exitCode === unknownExitCode;
}
