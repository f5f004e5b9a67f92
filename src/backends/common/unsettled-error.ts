import { SockerlessError } from "../../common/errors.ts";

/**
 * A driver's call failed, and what it was to make may be there all the same: its answer was lost, or what it made could
 * not be taken back. The engine keeps its record, so that the call is repeated or undone.
 */
export class UnsettledError extends SockerlessError {}
