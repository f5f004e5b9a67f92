/** Log groups with their streams and events. */
import { arnOf, type Context } from "../../context.ts";
import type { LogEvent, LogGroups } from "../../cloud.ts";
import { AwsFault } from "../../wire/service.ts";

/** An event as it is kept. */
export interface StoredEvent extends LogEvent {
  /** Simulated milliseconds since the epoch. */
  readonly ingestionTime: number;
  /** Simulated milliseconds since the epoch, from which on it can be read. */
  readonly visibleAt: number;
  /** Tells events of one stream with one timestamp apart. */
  readonly sequence: number;
}

/** Lines of a container that came together, and what is the same for all of them. */
interface LineBatch extends Omit<StoredEvent, "message" | "sequence"> {
  readonly lines: readonly string[];
  readonly firstSequence: number;
}

/** Least and most that a stream keeps, in characters and {@link eventOverhead}; AWS keeps everything. */
const keptSize = 32 * 1024 ** 2;
const largestSize = 40 * 1024 ** 2;
/** Bytes that AWS counts for an event beside its message. */
const eventOverhead = 26;

/** A log stream, which keeps only the newest events, since it lies in memory. */
export class LogStream {
  readonly name: string;
  readonly createdAt: number;
  #events: StoredEvent[] = [];
  /** Size of events and batches together, counted as {@link keptSize}. */
  #size = 0;
  /** Batches in the order in which they came: an event is made of a line only once somebody reads. */
  #batches: LineBatch[] = [];

  constructor(name: string, createdAt: number) {
    this.name = name;
    this.createdAt = createdAt;
  }

  /** Events in the order of their timestamps; those with the same one in the order in which they came. */
  get events(): readonly StoredEvent[] {
    const batches = this.#batches;
    this.#batches = [];
    for (const { lines, firstSequence, ...same } of batches) {
      for (const [index, message] of lines.entries()) {
        this.#put({ ...same, message, sequence: firstSequence + index });
      }
    }
    return this.#events;
  }

  put(event: StoredEvent): void {
    void this.events; // Lines that came before become events first, and so stand before it.
    this.#put(event);
    this.#grow(sizeOf(event.message));
  }

  putLines(batch: LineBatch): void {
    this.#batches.push(batch);
    this.#grow(sizeOfLines(batch));
  }

  /** Drops the oldest together, now and then, since each time costs. */
  #grow(by: number): void {
    this.#size += by;
    if (this.#size <= largestSize) {
      return;
    }
    const [events, afterEvents] = without(this.#events, this.#size, ({ message }) => sizeOf(message));
    const [batches, afterBatches] = without(this.#batches, afterEvents, sizeOfLines);
    this.#events = events;
    this.#batches = batches;
    this.#size = afterBatches;
  }

  #put(event: StoredEvent): void {
    const { timestamp } = event;
    const later = this.#events.findLastIndex((each) => each.timestamp <= timestamp) + 1;
    this.#events.splice(later, 0, event);
  }
}

function sizeOf(message: string): number {
  return message.length + eventOverhead;
}

function sizeOfLines({ lines }: LineBatch): number {
  return lines.reduce((sum, line) => sum + sizeOf(line), 0);
}

/** Items without the first ones that are too much, and the size that is left. */
function without<Item>(items: Item[], size: number, sizeOfItem: (item: Item) => number): [Item[], number] {
  let left = size;
  const first = items.findIndex((item) => {
    const next = left - sizeOfItem(item);
    if (next < keptSize) {
      return true;
    }
    left = next;
    return false;
  });
  return [first < 0 ? [] : items.slice(first), left];
}

/** A log group. */
export interface LogGroup {
  readonly name: string;
  readonly createdAt: number;
  readonly streams: Map<string, LogStream>;
}

/** The most that an event may have, in bytes. */
const maxEventBytes = 1024 ** 2;

/** All log groups. */
export class LogState implements LogGroups {
  readonly #context: Context;
  readonly #groups = new Map<string, LogGroup>();
  #sequence = 0;

  constructor(context: Context) {
    this.#context = context;
  }

  groups(): readonly LogGroup[] {
    return [...this.#groups.values()].sort((one, other) => (one.name < other.name ? -1 : 1));
  }

  /** @throws AwsFault `ResourceNotFoundException` */
  group(name: string): LogGroup {
    const found = this.#groups.get(name);
    if (found === undefined) {
      throw new AwsFault("ResourceNotFoundException", "The specified log group does not exist.");
    }
    return found;
  }

  /** @throws AwsFault `ResourceNotFoundException` */
  stream(group: string, name: string): LogStream {
    const found = this.group(group).streams.get(name);
    if (found === undefined) {
      throw new AwsFault("ResourceNotFoundException", "The specified log stream does not exist.");
    }
    return found;
  }

  createGroup(name: string): void {
    this.#groups.set(name, { name, createdAt: this.#context.clock.nowMs(), streams: new Map() });
  }

  createStream(group: string, name: string): void {
    const { streams } = this.group(group);
    if (streams.has(name)) {
      throw new AwsFault("ResourceAlreadyExistsException", "The specified log stream already exists");
    }
    streams.set(name, new LogStream(name, this.#context.clock.nowMs()));
  }

  putLogEvents(group: string, name: string, events: readonly LogEvent[]): void {
    const stream = this.stream(group, name);
    const ingestionTime = this.#context.clock.nowMs();
    const visibleAt = ingestionTime + this.#context.delays.logIngestion;
    for (const { timestamp, message } of events) {
      if (Buffer.byteLength(message) > maxEventBytes) {
        throw new AwsFault("InvalidParameterException", "Log event too large: the limit is 1048576 bytes");
      }
      this.#sequence += 1;
      stream.put({ timestamp, message, ingestionTime, visibleAt, sequence: this.#sequence });
    }
  }

  putLines(group: string, name: string, lines: readonly string[]): void {
    const stream = this.stream(group, name);
    const timestamp = this.#context.clock.nowMs();
    const visibleAt = timestamp + this.#context.delays.logIngestion;
    const firstSequence = this.#sequence + 1;
    this.#sequence += lines.length;
    stream.putLines({ timestamp, ingestionTime: timestamp, visibleAt, lines, firstSequence });
  }

  /** The events that can be read now, from one time (included) to another (excluded). */
  readable({ events }: LogStream, startTime = 0, endTime = Number.POSITIVE_INFINITY): StoredEvent[] {
    const now = this.#context.clock.nowMs();
    return events.filter(
      ({ timestamp, visibleAt }) => visibleAt <= now && timestamp >= startTime && timestamp < endTime,
    );
  }

  groupArn(name: string): string {
    return arnOf(this.#context, "logs", `log-group:${name}`);
  }

  streamArn(group: string, name: string): string {
    return `${this.groupArn(group)}:log-stream:${name}`;
  }
}
