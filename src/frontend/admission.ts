/**
 * How many requests are worked on at once. The rest waits in the order in which it came: as a connection has one
 * request under way, its clients take turns.
 *
 * Why: each request that is worked on costs time of the one thread, here and in the backend; thousands that begin
 * together are all late, and everybody else's with them.
 */
import { unavailable } from "../common/errors.ts";
import { Slots } from "./http/slots.ts";

/** The bounds; a test has its own. */
export interface AdmissionLimits {
  /** Requests that are worked on. */
  readonly working: number;
  /**
   * Milliseconds for which a request counts as worked on. One that takes longer waits for something else, a
   * container's end or a cloud, and so does one that has begun to answer: a thousand `docker wait` keep
   * nobody out.
   */
  readonly workingMs: number;
  /** Requests that are under way at all: those that are worked on, that wait, and that no longer count. */
  readonly underWay: number;
}

const usualLimits: AdmissionLimits = { working: 256, workingMs: 250, underWay: 16_384 };

/** A request that was let in. */
export interface Admitted extends Disposable {
  /** Notes that it has begun to answer: it does not count as worked on any more. */
  answers(): void;
}

/** Lets requests in. */
export class Admission {
  readonly #limits: AdmissionLimits;
  readonly #slots: Slots;
  #underWay = 0;

  constructor(limits: AdmissionLimits = usualLimits) {
    this.#limits = limits;
    this.#slots = new Slots(limits.working);
  }

  /**
   * Waits for a request's turn; disposing ends it.
   *
   * @throws SockerlessError of kind `unavailable` where too many are under way
   */
  async enter(): Promise<Admitted> {
    if (this.#underWay >= this.#limits.underWay) {
      throw unavailable(`more than ${this.#limits.underWay} requests are under way`);
    }
    this.#underWay += 1;
    const place = await this.#slots.enter();
    const answers = (): void => place[Symbol.dispose]();
    const limit = setTimeout(answers, this.#limits.workingMs);
    return {
      answers,
      [Symbol.dispose]: () => {
        clearTimeout(limit);
        answers();
        this.#underWay -= 1;
      },
    };
  }
}

/** A request that the frontend answers by itself, a ping above all: it waits for nobody. */
export const admittedAtOnce: Admitted = { answers: () => {}, [Symbol.dispose]: () => {} };
