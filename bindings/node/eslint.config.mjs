import js from '@eslint/js';
import typescript from 'typescript-eslint';

const globals = Object.fromEntries(
  [
    'AbortController',
    'AbortSignal',
    'Buffer',
    'console',
    'fetch',
    'performance',
    'process',
    'setImmediate',
    'setTimeout',
    'URL',
    'globalThis',
  ].map((name) => [name, 'readonly']),
);

export default typescript.config(
  { ignores: ['**/dist', '**/node_modules', '**/build'] },
  js.configs.recommended,
  {
    files: ['**/*.mjs'],
    languageOptions: { globals },
    rules: { 'no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }] },
  },
  {
    files: ['**/src/**/*.ts'],
    extends: [...typescript.configs.strictTypeChecked],
    languageOptions: { parserOptions: { project: './tsconfig.json', tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/no-non-null-assertion': 'off',
      // Errors of the addon have types that the compiler does not know.
      '@typescript-eslint/prefer-promise-reject-errors': 'off',
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      '@typescript-eslint/no-confusing-void-expression': 'off',
      '@typescript-eslint/no-meaningless-void-operator': 'off',
      // The functions of the addon need no `this`.
      '@typescript-eslint/unbound-method': 'off',
      '@typescript-eslint/only-throw-error': 'off',
      '@typescript-eslint/unified-signatures': 'off',
    },
  },
);
