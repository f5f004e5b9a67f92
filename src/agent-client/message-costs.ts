/**
 * Bounds what an agent's messages cost the thread that reads them. Decoding takes time and memory by the number of a
 * message's fields: four mebibytes hold two million of them, which would block the thread for seconds.
 */
import { setTimeout as sleep } from "node:timers/promises";

import { type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { Code, ConnectError } from "@connectrpc/connect";

import { pauseAfter } from "../common/pauses.ts";
import { Turns } from "../common/turns.ts";
import { announcedLength, prefixLength } from "./grpc-request.ts";

/** Maximum fields of a message and of those in it; the longest is a table of some thousand processes. */
const maxFields = 65_536;
/** Cost of a message besides its fields, in fields. */
const messageCost = 20;
/** Fields of a step: less than a millisecond of work. */
const stepCost = 1_000;
/** A message of more fields is followed by a pause of its own stream. */
const largeCost = 5_000;
/** Milliseconds of a stream's first such pause for each field, some times what it takes to decode. */
const pausePerField = 0.005;
/** Milliseconds of the longest one. Each is twice as long as the one before: a crowd of agents would fill the event loop's turns. */
const longestPauseMs = 10_000;
/** Milliseconds for each field before another stream's such message: others have most of the thread's time. */
const gapPerField = 0.001;

/** Steps of all agents in a turn of the thread's event loop, besides the first one of each stream. */
const steps = new Turns(2);
/** Resolves when the next large message of any agent may be decoded. */
let largeTurn: Promise<void> = Promise.resolve();

/**
 * Yields the same messages in small chunks, so that the thread does other work in between however many come.
 *
 * @param chunks whole messages with their prefixes; the last may be a prefix alone
 * @param output type of the messages
 * @throws ConnectError `ResourceExhausted` for a message of too many fields
 */
export async function* inSteps(
  chunks: AsyncIterable<Uint8Array>,
  output: DescMessage,
): AsyncGenerator<Uint8Array> {
  let hadStep = false;
  let largeOnes = 0;
  for await (const chunk of chunks) {
    for (let start = 0; start < chunk.length; ) {
      let end = start;
      let cost = 0;
      do {
        const first = end + prefixLength;
        end = Math.min(chunk.length, first + announcedLength(chunk.subarray(end, first)));
        cost += messageCost + countFields(chunk.subarray(first, end), output);
      } while (end < chunk.length && cost < stepCost);
      if (cost > largeCost) {
        const turn = largeTurn;
        largeTurn = turn.then(() => sleep(cost * gapPerField));
        await turn;
      } else if (hadStep) {
        await steps.next();
      } else {
        hadStep = true;
        setImmediate(() => {
          hadStep = false;
        });
      }
      yield chunk.subarray(start, end);
      if (cost > largeCost) {
        const firstMs = cost * pausePerField;
        await sleep(pauseAfter(++largeOnes, { firstMs, longestMs: longestPauseMs }));
      }
      start = end;
    }
  }
}

/** The number of fields of a message. @throws ConnectError `ResourceExhausted`: too many */
function countFields(bytes: Uint8Array, message: DescMessage): number {
  const counter = new FieldCounter(bytes);
  try {
    counter.count(bytes.length, fieldsOf(message));
  } catch (error) {
    if (error instanceof ConnectError) {
      throw error;
    }
    // It cannot be decoded: the library says so, and gets no further than this.
  }
  return counter.fields;
}

/** Content of a field that has a length: fields, numbers without tags, or undefined for text, bytes and unknown fields. */
type Content = ((number: number) => Content) | "numbers" | undefined;

function fieldsOf(message: DescMessage): (number: number) => Content {
  return (number) => contentOf(message.fields.find((field) => field.number === number));
}

function contentOf(field: DescField | undefined): Content {
  const inner = field?.message;
  if (field?.fieldKind === "map") {
    return (part) => (part === mapValue && inner !== undefined ? fieldsOf(inner) : undefined);
  }
  if (inner !== undefined) {
    return fieldsOf(inner);
  }
  const isText = field?.scalar === ScalarType.STRING || field?.scalar === ScalarType.BYTES;
  return field?.fieldKind === "list" && !isText ? "numbers" : undefined;
}

/** The field of a map's entry that has the value. */
const mapValue = 2;

class FieldCounter {
  fields = 0;
  readonly #reader: BinaryReader;

  constructor(bytes: Uint8Array) {
    this.#reader = new BinaryReader(bytes);
  }

  /** @param end of the fields. @throws Error: they cannot be decoded */
  count(end: number, contentOfField: (number: number) => Content): void {
    const reader = this.#reader;
    while (reader.pos < end) {
      const [number, wireType] = reader.tag();
      this.#add(1);
      if (wireType === WireType.StartGroup || wireType === WireType.EndGroup) {
        continue; // Its fields count as if they were beside it.
      }
      if (wireType !== WireType.LengthDelimited) {
        reader.skip(wireType, number);
        continue;
      }
      const length = reader.uint32();
      const content = contentOfField(number);
      if (typeof content === "function") {
        this.count(reader.pos + length, content);
      } else {
        this.#add(content === "numbers" ? length : 0);
        reader.pos += length;
      }
    }
  }

  #add(fields: number): void {
    this.fields += fields;
    if (this.fields > maxFields) {
      throw new ConnectError(
        `the agent sent a message of more than ${maxFields} fields`,
        Code.ResourceExhausted,
      );
    }
  }
}
