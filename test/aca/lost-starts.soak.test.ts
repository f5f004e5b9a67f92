/** Starts on Azure that a kill interrupts; `npm test` has those on this machine. */
import "./on-aca.ts";
import "../fault/lost-starts.test.ts";
