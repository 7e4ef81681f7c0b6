// node validate.js FILE...  prints one JSON report of the Khronos glTF validator for each file.
const fs = require("fs");
const validator = require("gltf-validator");

(async () => {
  const reports = [];
  for (const file of process.argv.slice(2)) {
    const report = await validator.validateBytes(new Uint8Array(fs.readFileSync(file)), { uri: file, maxIssues: 50 });
    const { numErrors, numWarnings, messages } = report.issues;
    reports.push({ file, errors: numErrors, warnings: numWarnings, messages });
  }
  process.stdout.write(JSON.stringify(reports));
})();
