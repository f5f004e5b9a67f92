/**
 * Answers of the backend that are given again without a call, for as long as the backend's generation file says that
 * nothing has changed: never older than what any client has been told.
 */
import { closeSync, constants, openSync, readSync } from "node:fs";

import { generationBytes, generationPathOf, noGeneration } from "../../common/generation-file.ts";

/** Characters of the texts that are held, at most; one that is larger is not held. */
const maxCharacters = 4 * 1024 * 1024;

/** Options of {@link HeldAnswers}. */
export interface HeldAnswersOptions {
  /** The backend's: `unix:///path`, or one at which nothing is held. */
  readonly address: string;
  /** Tells the connection to the backend from those before it; undefined: there is none. */
  readonly connection: () => number | undefined;
}

/** Answers of one generation of the backend's state. */
export class HeldAnswers {
  readonly #path: string | undefined;
  readonly #connectionNow: () => number | undefined;
  readonly #texts = new Map<string, string>();
  readonly #bytes = Buffer.alloc(generationBytes);
  #characters = 0;
  #generation = noGeneration;
  #connection: number | undefined;
  #descriptor: number | undefined;

  constructor({ address, connection }: HeldAnswersOptions) {
    this.#path = generationPathOf(address);
    this.#connectionNow = connection;
  }

  /** The text that is held for a question; undefined: the backend is to be asked. */
  get(question: string): string | undefined {
    if (this.#texts.size > 0 && !this.#isCurrent()) {
      this.close();
    }
    return this.#texts.get(question);
  }

  /**
   * Holds a text.
   *
   * @param generation the one that the backend's answer names; 0: not to be held
   */
  hold(question: string, generation: bigint, text: string): void {
    if (generation === noGeneration || text.length > maxCharacters) {
      return;
    }
    if (generation !== this.#generation || this.#characters + text.length > maxCharacters) {
      this.close();
      this.#open(generation);
    }
    // The file tells another where it is not this backend's, or where something has just changed.
    if (this.#isCurrent()) {
      this.#characters += text.length - (this.#texts.get(question)?.length ?? 0);
      this.#texts.set(question, text);
    }
  }

  /** Forgets everything. */
  close(): void {
    this.#texts.clear();
    this.#characters = 0;
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
      const length = readSync(this.#descriptor, this.#bytes, 0, generationBytes, 0);
      return length === generationBytes && this.#bytes.readBigUInt64LE() === this.#generation;
    } catch {
      return false;
    }
  }
}
