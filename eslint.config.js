import tseslint from 'typescript-eslint';

/** The rooms of src/, top to bottom: a room imports only from rooms above it. */
const ROOMS = [
  'base',
  'torch',
  'nn',
  'formats',
  'models',
  'text',
  'config',
  'data',
  'generate',
  'eval',
  'parallel',
  'optim',
  'train',
  'plan',
  'guard',
  'recipes',
  'server',
  'cli',
];

const roomRules = ROOMS.map((room, index) => ({
  files: [`src/${room}/**/*.ts`],
  rules: {
    'no-restricted-imports': [
      'error',
      {
        patterns: [
          {
            regex: `^(\\.\\./)+(${[...ROOMS.slice(index + 1), 'index\\.js'].join('|')})(/|$)`,
            message: `The room "${room}" may import only from rooms above it (see CONTRIBUTING.md).`,
          },
          {
            regex: '^(\\.\\./)+(parity|bench|test)/',
            message: 'Runners and benchmarks import the rooms, never the other way round.',
          },
        ],
      },
    ],
  },
}));

export default tseslint.config(
  {
    ignores: [
      'dist/',
      '.patina/',
      '.gpu/',
      'node_modules/',
      'native/',
      'runs/',
      '**/*.generated.ts',
    ],
  },
  {
    files: ['**/*.{ts,tsx}'],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: {
      parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allowBoolean: true, allowNullish: false },
      ],
      '@typescript-eslint/no-unnecessary-condition': 'off',
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      '@typescript-eslint/unbound-method': 'off',
      '@typescript-eslint/no-extraneous-class': 'off',
      '@typescript-eslint/no-unused-vars': [
        'error',
        { argsIgnorePattern: '^_', ignoreUsingDeclarations: true },
      ],
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': 'error',
    },
  },
  ...roomRules,
);
