/**
 * How a start goes on that has failed before its command has begun: it is tried again, unless the reason is known to last. A
 * cloud reads its failures so, by their codes where it tells codes.
 */

/**
 * Waits for `room` in line with others; is tried again, because what has failed may pass (`passes`), or there was no
 * `capacity` of the kind that was asked for; is asked again for as long as a right that was just granted may take to
 * hold, where it was `denied`; or fails at once, because the reason `lasts`.
 */
export type Prospect = "room" | "capacity" | "passes" | "denied" | "lasts";

/** Codes for what does not exist, is not valid, or is more than a quota that no end of a task makes room in. */
const lastingCode = /NotFound|^(Invalid|Validation|BadRequest|Malformed|Unsupported)|(Limit|Quota)Exceeded/;

/** Whether a cloud's code says that the same request is refused again. */
export function isLastingCode(code: string): boolean {
  return lastingCode.test(code);
}

/** Refusals by registries, file servers and other services, in the words that clouds quote. */
const refusal =
  /denied|unauthorized|not authorized|authorization failed|forbidden|not ?found|(manifest|name)[ _](unknown|invalid)|matching platform/i;

/**
 * Whether a text without a code of its own quotes a refusal: an image, a secret or a file system does not exist, or is not
 * given.
 */
export function quotesRefusal(words: string): boolean {
  return refusal.test(words);
}
