/**
 * A connection to a calling agent that survives the loss of its carrier: sent bytes are kept until acknowledged, and
 * sent again on the next carrier. Frames are specified in docs/formats.md; the other end is
 * `agent/init/callback/link.go`.
 */
import { randomBytes } from "node:crypto";
import { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";

import { Allowance } from "../common/allowance.ts";
import { messageOf } from "../common/errors.ts";
import { HandshakeLimit } from "./handshake-limit.ts";
import { KeptBytes } from "./kept-bytes.ts";

const opensLink = 1;
const resumesLink = 2;
const idSize = 16;
/** A frame's head: 8 bytes for the number of bytes received, 4 for the length of the data that follows. */
const frameHead = 12;
/** In place of a length: no frames follow. */
const endsLink = 0xffff_ffff;
/** Bytes that wait in a carrier; the others wait among those kept, where they count once. */
const carrierBytes = 16 * 1024;
/** Bytes received before an acknowledgement is sent. */
const ackAfter = 256 * 1024;
/** Time that a link may be without a carrier; the agent's end waits as long. */
export const cutLimitMs = 120_000;
/** Time for an agent to answer on a carrier. */
const answerWithinMs = 10_000;
/** Time for an agent to close a carrier after the last frame. */
const leaveLimitMs = 10_000;
const pauseMs = 250;
/** Resumes without a pause at once; an honest agent's link is cut a few times a minute at most. */
const promptResumes = 10;
/** Milliseconds after which one more is granted, and the pause before those beyond. */
const resumePauseMs = 5_000;
/** Time after which a carrier counts as working, even if the link was quiet. */
const steadyAfterMs = 10_000;
/** The pause between attempts to tell an agent that we left; nothing waits for these. */
const leavePauseMs = 1_000;
/** The most farewells that wait for one agent. The oldest beyond are dropped: it keeps those links' ends until its own limit. */
const mostFarewells = 256;

/** Farewells of links that were left while they were cut: each agent is told of one after another. */
class Farewells {
  readonly #waiting = new Map<string | undefined, (() => Promise<boolean>)[]>();

  /** @param attempt tells an agent that we left; resolves to false if it is to be repeated */
  add(agent: string | undefined, attempt: () => Promise<boolean>): void {
    const waiting = this.#waiting.get(agent);
    if (waiting === undefined) {
      void this.#work(agent, [attempt]);
    } else {
      waiting.push(attempt);
      waiting.splice(0, waiting.length - mostFarewells);
    }
  }

  async #work(agent: string | undefined, waiting: (() => Promise<boolean>)[]): Promise<void> {
    this.#waiting.set(agent, waiting);
    for (let attempt = waiting.shift(); attempt !== undefined; attempt = waiting.shift()) {
      if (!(await attempt())) {
        await sleep(leavePauseMs, undefined, { ref: false });
        waiting.push(attempt);
      }
    }
    this.#waiting.delete(agent);
  }
}

const farewells = new Farewells();

/** The agent is gone for good: connections to it cannot resume. */
export class AgentGoneError extends Error {}

export interface LinkOptions {
  /** Tells links to different agents apart. */
  readonly agent?: string;
  /** Time that the link may be without a carrier, in milliseconds. */
  readonly limitMs?: number;
  /** Time after which a carrier counts as working without any bytes, in milliseconds. */
  readonly steadyAfterMs?: number;
}

/**
 * The client's end of a link. It emits `cut` when the carrier is lost, and `error` when no new one was found in time.
 */
export class Link extends Duplex {
  readonly #connect: () => Promise<Duplex>;
  readonly #agent: string | undefined;
  readonly #limitMs: number;
  readonly #steadyAfterMs: number;
  readonly #id = randomBytes(idSize);
  #carrier: Duplex | undefined;
  /**
   * The previous carrier, closed once the agent uses the new one. Closed earlier, it would tell the agent that we left.
   */
  #former: Duplex | undefined;
  /** The carrier that has the last frame. */
  #last: Duplex | undefined;
  /** Set while a new carrier is being sought. */
  #search: Promise<void> | undefined;
  readonly #resumes = new Allowance(promptResumes, resumePauseMs);
  /** The search's end, on `performance`'s clock; a carrier that is lost without any progress does not postpone it. */
  #givenUpAt = 0;
  /** Bytes received and acknowledged when the last search began. */
  #progress: number | undefined;
  /** Begin of the last carrier's use. */
  #usedAt = 0;
  readonly #kept: KeptBytes;
  /** Offset of the first kept byte. */
  #base = 0;
  #received = 0;
  #rawReceived = 0;
  /** Holds for all carriers together: the relay does not look into links. */
  readonly #handshake = new HandshakeLimit();
  #acknowledged = 0;
  #head: Buffer = Buffer.alloc(0);
  /** Bytes of the current frame still to come. */
  #rest = 0;
  #room: (() => void) | undefined;
  /** Set once nothing more is sent. */
  #finished: boolean = false;
  /** Set once nothing more arrives. */
  #isOver: boolean = false;

  /**
   * Opens a link.
   *
   * @param connect opens a connection to the agent; may be called at any time. @throws AgentGoneError if the agent is
   *   gone
   * @throws Error from `connect`
   */
  static async open(connect: () => Promise<Duplex>, options: LinkOptions = {}): Promise<Link> {
    const link = new Link(connect, options);
    const carrier = await connect();
    carrier.write(link.#opening(opensLink));
    link.#use(carrier);
    return link;
  }

  private constructor(connect: () => Promise<Duplex>, options: LinkOptions) {
    super({ allowHalfOpen: false });
    this.#connect = connect;
    this.#agent = options.agent;
    this.#kept = new KeptBytes(options.agent, () => {
      const left = this.#last;
      this.destroy(new Error("the agent leaves too many bytes unacknowledged"));
      left?.destroy();
    });
    this.#limitMs = options.limitMs ?? cutLimitMs;
    this.#steadyAfterMs = options.steadyAfterMs ?? steadyAfterMs;
  }

  /** True while it has no carrier. */
  get isCut(): boolean {
    return this.#carrier === undefined;
  }

  /** Bytes received. */
  get received(): number {
    return this.#received;
  }

  /** Bytes received of all carriers, whatever their frames carry. */
  get rawReceived(): number {
    return this.#rawReceived;
  }

  /** Looks for a new carrier, as this one is silent. */
  renew(): void {
    this.#search ??= this.#resume().finally(() => {
      this.#search = undefined;
      if (this.isCut && !this.destroyed && !this.#isOver) {
        this.renew();
      }
    });
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, written: () => void): void {
    this.#handshake.noteSent(chunk);
    if (this.#isOver) {
      written();
      return;
    }
    this.#room = written;
    this.#kept.add(chunk);
    this.#sendKept(this.#carrier);
    this.#noteRoom();
  }

  override _read(): void {
    this.#carrier?.resume();
  }

  override _final(done: () => void): void {
    this.#finished = true;
    this.#sendKept(this.#carrier);
    const limit = setTimeout(() => this.destroy(), this.#limitMs).unref(); // The agent may never read it all.
    this.once("close", () => clearTimeout(limit));
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    const carrier = this.#carrier ?? this.#former;
    this.#carrier = undefined;
    this.#former = undefined;
    if (carrier?.writable === true) {
      this.#leaveInOrder(carrier, error);
    } else {
      this.#kept.clear();
      if (!this.#isOver) {
        this.#leaveOverNext();
      }
    }
    done(error);
  }

  /** Leaves after what was written, if the link did not fail; this counts as kept while the carrier has it. */
  #leaveInOrder(carrier: Duplex, error: Error | null): void {
    if (error !== null) {
      this.#kept.clear();
    }
    for (let part = this.#kept.next(); part !== undefined; part = this.#kept.next()) {
      this.#send(carrier, part);
    }
    this.#leave(carrier);
    carrier.once("close", () => this.#kept.clear());
  }

  /** Leaves over the next carrier: otherwise the agent would keep its end until its own limit. */
  #leaveOverNext(): void {
    const until = performance.now() + this.#limitMs;
    farewells.add(this.#agent, async () => {
      if (performance.now() >= until) {
        return true;
      }
      try {
        const carrier = await this.#connect();
        carrier.write(this.#opening(resumesLink));
        this.#leave(carrier);
        return true;
      } catch (error) {
        return isGone(error);
      }
    });
  }

  /**
   * Sends the last frame, at which the agent closes the carrier. Closed from here, a platform on the way may drop the frame,
   * and the agent takes it for a cut.
   */
  #leave(carrier: Duplex): void {
    carrier.resume();
    if (this.#last === carrier) {
      return;
    }
    this.#last = carrier;
    carrier.on("error", () => {});
    if (carrier.writable) {
      carrier.write(this.#frameHead(endsLink));
    }
    const limit = setTimeout(() => carrier.destroy(), leaveLimitMs).unref(); // The agent may never read it.
    carrier.once("end", () => carrier.destroy());
    carrier.once("close", () => clearTimeout(limit));
  }

  #opening(kind: number): Buffer {
    const opening = Buffer.alloc(1 + idSize + 8);
    opening[0] = kind;
    opening.set(this.#id, 1);
    opening.writeBigUInt64BE(BigInt(this.#received), 1 + idSize);
    return opening;
  }

  #frameHead(length: number): Buffer {
    const head = Buffer.allocUnsafe(frameHead);
    head.writeBigUInt64BE(BigInt(this.#received), 0);
    head.writeUInt32BE(length, 8);
    this.#acknowledged = this.#received;
    return head;
  }

  #send(carrier: Duplex, part: Buffer): void {
    carrier.cork();
    carrier.write(this.#frameHead(part.length));
    carrier.write(part, () => this.#sendKept(carrier));
    carrier.uncork();
  }

  /** Sends what the carrier has room for, and in the end the last frame. */
  #sendKept(carrier: Duplex | undefined): void {
    // A write that failed calls back before the carrier is given up.
    while (carrier?.writable === true && carrier === this.#carrier && carrier.writableLength < carrierBytes) {
      const part = this.#kept.next();
      if (part !== undefined) {
        this.#send(carrier, part);
        continue;
      }
      if (this.#finished) {
        this.#leave(carrier);
      }
      return;
    }
  }

  #noteRoom(): void {
    if (this.#kept.hasRoom) {
      const room = this.#room;
      this.#room = undefined;
      room?.();
    }
  }

  #use(carrier: Duplex): void {
    this.#carrier = carrier;
    this.#usedAt = performance.now();
    this.#head = Buffer.alloc(0);
    this.#rest = 0;
    const lose = (): void => {
      if (this.#carrier !== carrier) {
        return;
      }
      this.#carrier = undefined;
      carrier.destroy();
      if (this.#finished && this.#last === carrier) {
        this.#end(); // The agent has closed the end that we finished.
      } else if (!this.destroyed) {
        this.emit("cut");
        this.renew();
      }
    };
    carrier.on("data", (chunk: Buffer) => {
      if (this.#carrier === carrier) {
        this.#receive(carrier, chunk);
      }
    });
    carrier.on("error", lose);
    carrier.once("end", lose);
    carrier.once("close", lose);
  }

  #receive(carrier: Duplex, bytes: Buffer): void {
    this.#rawReceived += bytes.length;
    let chunk = bytes;
    let wantsMore = true;
    while (chunk.length > 0 && !this.destroyed) {
      if (this.#rest > 0) {
        const data = chunk.subarray(0, this.#rest);
        chunk = chunk.subarray(data.length);
        this.#rest -= data.length;
        this.#received += data.length;
        if (!this.#handshake.noteReceived(data.length)) {
          this.destroy(new Error("the agent's handshake is too long"));
          return;
        }
        wantsMore = this.push(data);
        continue;
      }
      const missing = frameHead - this.#head.length;
      this.#head = Buffer.concat([this.#head, chunk.subarray(0, missing)]);
      chunk = chunk.subarray(missing);
      if (this.#head.length === frameHead) {
        const head = this.#head;
        this.#head = Buffer.alloc(0);
        this.#acknowledge(Number(head.readBigUInt64BE(0)));
        this.#rest = head.readUInt32BE(8);
        if (this.#rest === endsLink) {
          this.#carrier = undefined;
          this.#leave(carrier);
          this.#end();
          return;
        }
      }
    }
    if (!wantsMore) {
      carrier.pause();
    }
    if (this.#received - this.#acknowledged >= ackAfter && !this.destroyed && !this.#finished) {
      carrier.write(this.#frameHead(0), () => this.#sendKept(carrier));
    }
  }

  #end(): void {
    this.#isOver = true;
    this.#kept.clear(); // The agent takes no more.
    this.#noteRoom();
    this.push(null);
  }

  /** Drops the acknowledged bytes. */
  #acknowledge(arrived: number): void {
    if (arrived < this.#base || arrived > this.#base + this.#kept.length) {
      this.destroy(new Error("the agent acknowledges bytes that it was not sent"));
      return;
    }
    this.#kept.drop(arrived - this.#base);
    this.#base = arrived;
    this.#noteRoom();
  }

  async #resume(): Promise<void> {
    let left = this.#timeLeft();
    let reason: unknown = new Error("it is cut whenever it resumes");
    if (left > 0 && !this.#resumes.take()) {
      await sleep(Math.min(left, resumePauseMs), undefined, { ref: false });
      left = this.#givenUpAt - performance.now();
    }
    for (; left > 0 && !this.destroyed; left = this.#givenUpAt - performance.now()) {
      try {
        await this.#goOn();
        return;
      } catch (error) {
        reason = error;
        if (isGone(error)) {
          break;
        }
      }
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
    if (this.isCut) {
      this.#isOver = true;
      this.destroy(new Error(`the connection to the agent was cut: ${messageOf(reason)}`));
    }
  }

  /** Milliseconds for a search that begins: the whole limit if the last carrier worked, otherwise what the last one left. */
  #timeLeft(): number {
    const now = performance.now();
    const progress = this.#base + this.#received;
    if (progress !== this.#progress || now - this.#usedAt >= this.#steadyAfterMs) {
      this.#givenUpAt = now + this.#limitMs;
    }
    this.#progress = progress;
    return this.#givenUpAt - now;
  }

  /** Resumes over a new carrier. @throws Error if there is none, or it does not work */
  async #goOn(): Promise<void> {
    const carrier = await this.#connect();
    if (this.destroyed || this.#isOver) {
      carrier.destroy();
      return;
    }
    // From here on the agent sends everything anew.
    this.#former ??= this.#carrier;
    this.#carrier = undefined;
    carrier.write(this.#opening(resumesLink));
    const head = await readHead(carrier).catch((error: unknown) => {
      carrier.on("error", () => {}).destroy();
      if (this.destroyed) {
        this.#leaveOverNext(); // The agent may have dropped the former one for it.
      }
      throw error;
    });
    if (this.destroyed) {
      this.#leave(carrier); // The agent has dropped the former one for it.
      return;
    }
    const arrived = Number(head.readBigUInt64BE(0));
    const isEnd = head.readUInt32BE(8) === endsLink;
    if (isEnd && (arrived === 0 || arrived !== this.#base + this.#kept.length)) {
      carrier.destroy();
      throw new AgentGoneError("the agent has given it up");
    }
    this.#former?.destroy();
    this.#former = undefined;
    this.#acknowledge(arrived);
    if (this.destroyed) {
      carrier.destroy();
      return;
    }
    if (isEnd) {
      this.#leave(carrier);
      this.#end();
      return;
    }
    carrier.write(this.#frameHead(0)); // Acknowledges the frame.
    this.#kept.rewind();
    this.#use(carrier);
    this.#rest = head.readUInt32BE(8); // Not by unshift(), which does nothing after a failed write.
    carrier.resume();
    this.#sendKept(carrier);
  }
}

function isGone(error: unknown): boolean {
  return error instanceof AgentGoneError || (error instanceof Error && error.cause instanceof AgentGoneError);
}

/** Reads the first frame's head. @throws Error if it does not arrive */
function readHead(carrier: Duplex): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const settle = (settled: () => void): void => {
      clearTimeout(timer);
      carrier.off("readable", read).off("error", fail).off("close", fail);
      settled();
    };
    const fail = (error?: unknown): void =>
      settle(() => reject(error instanceof Error ? error : new Error("the agent's connection was closed")));
    const read = (): void => {
      const head = carrier.read(frameHead) as Buffer | null;
      if (head !== null) {
        settle(() => resolve(head));
      }
    };
    const timer = setTimeout(() => fail(new Error("the agent does not answer")), answerWithinMs);
    carrier.on("readable", read).on("error", fail).on("close", fail);
  });
}
