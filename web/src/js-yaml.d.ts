// scripts/build.mjs copies the package's module beside what is compiled from here.
export { load } from "js-yaml";
