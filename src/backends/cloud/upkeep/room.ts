/** Room in a quota for the containers that are expected. */
import { type Expectations, ok, type Result, warning } from "../../../common/finding.ts";

/** The free part of a quota. */
interface Room {
  /** For how many containers of the smallest size. */
  readonly room: number;
  /** How the quota is raised. */
  readonly remedy: string;
}

/** @param what the quota with its number, as a text begins: `6 vCPUs of Fargate` */
export function comparedWith(
  { containers }: Pick<Expectations, "containers">,
  what: string,
  { room, remedy }: Room,
): Result {
  const text = `${what}: room for ${room} of the smallest containers`;
  return room >= containers ? ok(text) : warning(`${text}, not for ${containers}; ${remedy}`);
}
