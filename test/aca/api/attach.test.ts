import "../on-aca.ts";
import "../../api/attach.test.ts";
