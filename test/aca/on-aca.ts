/** Imported first: the client tests that are imported after it run on the ACA backend. */
import { testOn } from "../support/backend-under-test.ts";

testOn("aca");
