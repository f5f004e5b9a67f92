/**
 * How a start continues that has failed before its command began: it is retried, unless the reason is known to be
 * permanent. Clouds classify their failures this way, by error codes where available.
 */

/**
 * How the start continues: waits in the queue for `room` in the quota; is retried, because the failure may be transient
 * (`passes`), or because there was no `capacity` of the requested kind; is retried while a permission that was just
 * granted may not be effective yet (`denied`); or fails at once, because the reason is permanent (`lasts`).
 */
export type Prospect = "room" | "capacity" | "passes" | "denied" | "lasts";

/**
 * Codes for something that does not exist or is invalid, or that exceeds a quota for which no task's end makes room.
 */
const lastingCode = /NotFound|^(Invalid|Validation|BadRequest|Malformed|Unsupported)|(Limit|Quota)Exceeded/;

/** Whether a cloud's error code means that the same request will be refused again. */
export function isLastingCode(code: string): boolean {
  return lastingCode.test(code);
}

/** Refusals of registries, file servers and other services, as quoted by clouds. */
const refusal =
  /denied|unauthorized|not authorized|authorization failed|forbidden|not ?found|(manifest|name)[ _](unknown|invalid)|matching platform/i;

/**
 * Whether a text without an error code quotes a refusal: an image, secret or file system does not exist, or access is
 * denied.
 */
export function quotesRefusal(words: string): boolean {
  return refusal.test(words);
}
