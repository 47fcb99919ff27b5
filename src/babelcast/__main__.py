from babelcast.cli import main

main()
