/** Builds on ECS beside a real BuildKit: `npm run soak -- "builds beside BuildKit"`. */
import "./on-ecs.ts";
import "../builds/beside-buildkit.soak.test.ts";
