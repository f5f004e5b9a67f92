/** Compares the room in a quota with the number of expected containers. */
import { type Expectations, ok, type Result, warning } from "../../../common/finding.ts";

/** The free part of a quota. */
interface Room {
  /** Number of containers of the smallest size. */
  readonly room: number;
  /** How to raise the quota. */
  readonly remedy: string;
}

/** @param what the quota with its number, as the beginning of a sentence: `6 vCPUs of Fargate` */
export function comparedWith(
  { containers }: Pick<Expectations, "containers">,
  what: string,
  { room, remedy }: Room,
): Result {
  const text = `${what}: room for ${room} of the smallest containers`;
  return room >= containers ? ok(text) : warning(`${text}, not for ${containers}; ${remedy}`);
}
