from pruneas.cli import main

if __name__ == "__main__":
    main()
