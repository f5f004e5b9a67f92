/**
 * How a start continues that has failed before its command began: it is retried, unless the reason is known to be
 * permanent. Clouds classify their failures this way, by error codes where available.
 */

/**
 * Waits for `room` in line with others; is tried again, because what has failed may pass (`passes`), or there was no
 * `capacity` of the kind that was asked for; is asked again for as long as a right that was just granted may take to
 * hold, where it was `denied`; or fails at once, because the reason `lasts`.
 */
export type Prospect = "room" | "capacity" | "passes" | "denied" | "lasts";

/** Codes for what does not exist, is not valid, or is more than a quota that no end of a task makes room in. */
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
