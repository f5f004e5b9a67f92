/**
 * Answers of the backend that are given again without a call, for as long as the backend's generation file says that
 * nothing has changed: never older than what any client has been told.
 */
import { closeSync, constants, openSync, readSync } from "node:fs";

import type { OpenLogsResponse } from "../../gen/sockerless/backend/v1/container_pb.ts";
import {
  generationBytes,
  generationOffsets,
  generationPathOf,
  noGeneration,
} from "../../common/generation-file.ts";
import type { InspectExecResponse } from "../../gen/sockerless/backend/v1/exec_pb.ts";
import type { SummaryText } from "../convert/containers.ts";

/** Size of the answers that are held, at most; one that is larger is not held. */
const maxSize = 4 * 1024 * 1024;

/** Size of a container's state, about, without its error, which a client's own words can make long. */
const stateSize = 256;

/** Options of {@link HeldAnswers}. */
export interface HeldAnswersOptions<Answer> {
  /** The backend's: `unix:///path`, or one at which nothing is held. */
  readonly address: string;
  /** Tells the connection to the backend from those before it; undefined: there is none. */
  readonly connection: () => number | undefined;
  /** Size of an answer in characters, about. */
  readonly sizeOf: (answer: Answer) => number;
  /** The number of the generation file by which answers are held. */
  readonly by?: keyof typeof generationOffsets;
}

/** Answers of one generation of the backend's state. */
export class HeldAnswers<Answer> {
  readonly #path: string | undefined;
  readonly #sizeOf: (answer: Answer) => number;
  readonly #offset: number;
  readonly #connectionNow: () => number | undefined;
  readonly #answers = new Map<string, Answer>();
  readonly #bytes = Buffer.alloc(generationBytes);
  #size = 0;
  #generation = noGeneration;
  #connection: number | undefined;
  #descriptor: number | undefined;

  constructor({ address, connection, sizeOf, by = "all" }: HeldAnswersOptions<Answer>) {
    this.#sizeOf = sizeOf;
    this.#offset = generationOffsets[by];
    this.#path = generationPathOf(address);
    this.#connectionNow = connection;
  }

  /** The answer that is held for a question; undefined: the backend is to be asked. */
  get(question: string): Answer | undefined {
    if (this.#answers.size > 0 && !this.#isCurrent()) {
      this.close();
    }
    return this.#answers.get(question);
  }

  /**
   * Holds an answer.
   *
   * @param generation the one that the backend's answer names; 0: not to be held
   */
  hold(question: string, generation: bigint, answer: Answer): void {
    const size = this.#sizeOf(answer) + question.length;
    if (generation === noGeneration || size > maxSize) {
      return;
    }
    this.#drop(question);
    if (generation !== this.#generation || this.#size + size > maxSize) {
      this.close();
      this.#open(generation);
    }
    // The file tells another where it is not this backend's, or where something has just changed.
    if (this.#isCurrent()) {
      this.#size += size;
      this.#answers.set(question, answer);
    }
  }

  #drop(question: string): void {
    const held = this.#answers.get(question);
    if (held !== undefined) {
      this.#size -= this.#sizeOf(held) + question.length;
      this.#answers.delete(question);
    }
  }

  /** Forgets everything. */
  close(): void {
    this.#answers.clear();
    this.#size = 0;
    this.#generation = noGeneration;
    if (this.#descriptor !== undefined) {
      closeSync(this.#descriptor);
      this.#descriptor = undefined;
    }
  }

  #open(generation: bigint): void {
    if (this.#path === undefined) {
      return;
    }
    try {
      this.#descriptor = openSync(
        this.#path,
        constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK,
      );
      this.#generation = generation;
      this.#connection = this.#connectionNow();
    } catch {
      // Another machine's, or another user's.
    }
  }

  #isCurrent(): boolean {
    if (
      this.#descriptor === undefined ||
      this.#connection === undefined ||
      this.#connection !== this.#connectionNow()
    ) {
      return false;
    }
    try {
      const length = readSync(this.#descriptor, this.#bytes, 0, generationBytes, this.#offset);
      return length === generationBytes && this.#bytes.readBigUInt64LE() === this.#generation;
    } catch {
      return false;
    }
  }
}

/** Answers of a backend that a frontend holds. */
export interface Held {
  /** Bodies, as JSON. */
  readonly inspects: HeldAnswers<string>;
  readonly lists: HeldAnswers<readonly SummaryText[]>;
  readonly logs: HeldAnswers<OpenLogsResponse>;
  /** Last lines of the logs of containers that do not run: nobody writes those. */
  readonly lines: HeldAnswers<HeldLines>;
  /** Execs that have ended. */
  readonly execs: HeldAnswers<InspectExecResponse>;
}

/** The answer to a request for few lines of a log. */
export interface HeldLines {
  readonly contentType: string;
  readonly body: Buffer;
}

/** Makes it, empty. */
export function holdAnswers(backend: Omit<HeldAnswersOptions<never>, "sizeOf">): Held {
  return {
    inspects: new HeldAnswers({ ...backend, sizeOf: ({ length }) => length }),
    lists: new HeldAnswers({
      ...backend,
      sizeOf: (summaries) =>
        summaries.reduce(
          (sum, { text, state }) => sum + stateSize + text.length + (state?.error.length ?? 0),
          stateSize,
        ),
    }),
    logs: new HeldAnswers({ ...backend, sizeOf: ({ details }) => 1024 + JSON.stringify(details).length }),
    lines: new HeldAnswers({ ...backend, sizeOf: ({ body }) => 256 + body.length }),
    execs: new HeldAnswers({
      ...backend,
      sizeOf: ({ config }) => (config?.cmd ?? []).reduce((sum, { length }) => sum + length, 1024),
      by: "allButExecs",
    }),
  };
}
